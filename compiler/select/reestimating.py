"""Norm statistics for a front that came without: ``skipc build --reestimate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.axes.residual_scale import ResidualScale, scale_branches
from skipc.compiler.axes.units import find_units
from skipc.compiler.front import configurations_from_front
from skipc.compiler.read.export import export_supernet
from skipc.compiler.select.batched import batched_graph
from skipc.compiler.select.data import DataOptions, read_data
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.family_norms import family_norms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skipc.compiler.front import Front
    from skipc.compiler.norms.mode import NormMode
    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.read import Supernet


def reestimated_norms(
    supernet: Supernet,
    front: Front,
    mode: NormMode,
    data: str,
    scale: ResidualScale,
    survival: Mapping[str, float],
    note: Callable[[str], None],
) -> FamilyNorms:
    """Returns the statistics of the front's configurations, estimated on data.

    The samples are those that ``skipc select`` estimates on, given the same data.

    Args:
        supernet: The network.
        front: Its configurations.
        mode: How norms adapt.
        data: What ``--data`` of ``skipc select`` takes; its targets are not used.
        scale: How kept branches are scaled.
        survival: Survival probabilities by unit.
        note: Told in one line what makes the estimation slow.

    Raises:
        SelectError: The data cannot be read or does not fit the network.
        FrontError: The front is another network's.
    """
    plain = export_supernet(supernet)
    settings = EvaluationSettings(mode)
    samples = read_data(DataOptions(data), plain.inputs).parts.reestimate
    graph = batched_graph(supernet, plain, settings.rows, note)
    units = find_units(graph.model).units
    if scale is ResidualScale.ORIGINAL:
        graph = scale_branches(graph, units, survival)
    configurations = configurations_from_front(front, units, "the front")
    skipped = {c.name: {unit.name for unit in c.units} for c in configurations}
    genes = {name: tuple(int(u.name in gone) for u in units) for name, gone in skipped.items()}
    return family_norms(Evaluator(graph, units, samples, settings), mode, genes)

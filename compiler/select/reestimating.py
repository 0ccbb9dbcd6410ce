"""Norm statistics for a front that came without: ``skipc build --reestimate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.axes.skip import SkipAxis, units_of
from skipc.compiler.family import family_of
from skipc.compiler.front import configurations_from_front
from skipc.compiler.read.export import export_supernet
from skipc.compiler.residual_scale import scaled
from skipc.compiler.select.batched import batched_graph
from skipc.compiler.select.data import DataOptions, read_data
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.family_norms import family_norms

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipc.compiler.front import Front
    from skipc.compiler.norms.statistics import FamilyNorms, NormMode
    from skipc.compiler.read import Supernet
    from skipc.compiler.residual_scale import Scaling


def reestimated_norms(
    supernet: Supernet,
    front: Front,
    mode: NormMode,
    data: str,
    scaling: Scaling,
    note: Callable[[str], None],
) -> FamilyNorms:
    """Returns the statistics of the front's configurations, estimated on data.

    The samples are those that ``skipc select`` estimates on, given the same data.

    Args:
        supernet: The network.
        front: Its configurations.
        mode: How norms adapt.
        data: What ``--data`` of ``skipc select`` takes; its targets are not used.
        scaling: How kept branches are scaled.
        note: Told in one line what makes the estimation slow.

    Raises:
        SelectError: The data cannot be read or does not fit the network.
        FrontError: The front is another network's.
    """
    plain = export_supernet(supernet)
    settings = EvaluationSettings(mode)
    samples = read_data(DataOptions(data), plain.inputs).parts.reestimate
    graph = batched_graph(supernet, plain, settings.rows, note)
    family = family_of(scaled(graph, supernet, scaling))
    configurations = configurations_from_front(front, family.offers, "the front")
    units = units_of(family).units
    genes = {}
    for one in configurations:
        skipped = one.parts[0].choices.get(SkipAxis.key, ())
        assert isinstance(skipped, tuple)
        genes[one.name] = tuple(int(unit in skipped) for unit in units)
    return family_norms(Evaluator(family.network, units, samples, settings), mode, genes)

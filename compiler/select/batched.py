"""The network to evaluate with: one of batch 1 is exported once more with a dynamic batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.compiler.axes.float_layers import FloatLayersAxis
from skipc.compiler.axes.units import find_units
from skipc.compiler.errors import SupernetError
from skipc.compiler.family import Family, family_of
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.read.resized import resized
from skipc.compiler.residual_scale import ResidualScale, Scaling, scaled
from skipc.compiler.verify.golden import draw_inputs
from skipc.compiler.verify.numerics import difference, least_around_one, ranges_of
from skipc.compiler.verify.onnx_reference import run_graph
from skipc.runtime.bundle.tensors import BATCH, Dimension, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipc.compiler.network import Network, Size
    from skipc.compiler.read import Supernet
    from skipc.compiler.verify.numerics import Case

_CHECKED_ROWS = 3


class _UnfitError(Exception):
    """Carries the reason why the batched graph cannot be used."""


def evaluated_family(
    supernet: Supernet,
    family: Family,
    rows: int,
    scaling: Scaling,
    note: Callable[[str], None],
) -> Family:
    """Returns the family to evaluate with: one that takes ``rows`` rows at once, if possible.

    ``family`` is what is built of ``supernet``; ``note`` is told what makes evaluation slow.
    """
    original = scaling.of(supernet) is ResidualScale.ORIGINAL
    plain = supernet.exported() if original else family.network
    graph = batched_graph(supernet, plain, rows, note)
    if graph is family.network:
        return family
    if graph.switching is not None:
        return replace(family, network=graph)
    heads, calibration = family.network.heads, family.network.calibration
    if calibration is not None:
        calibration = calibration.regrouped(graph.inputs, graph.dimensions)

    def at(size: Size) -> Network:
        made = resized(supernet.with_rows(rows), size).exported()
        found = replace(scaled(made, scaling), heads=heads, dimensions=graph.dimensions)
        return replace(found, calibration=calibration)

    network = replace(scaled(graph, scaling), heads=heads, at=at, calibration=calibration)
    found = family_of(network)
    # Layers go by their names, and their order is measured once.
    layers = {FloatLayersAxis.key: family.offers[FloatLayersAxis.key]}
    found = replace(found, searched=family.searched, offers={**found.offers, **layers})
    if found.genes != family.genes:
        note(
            "the batch stays as it was exported, which makes evaluation slow: with a dynamic"
            " batch what is decided is another."
        )
        return family
    return found


def batched_graph(
    supernet: Supernet, graph: Network, rows: int, note: Callable[[str], None]
) -> Network:
    """Returns the graph to evaluate with: one that takes ``rows`` rows at once, if possible.

    Only a PyTorch network whose inputs all have a first dimension of 1 is exported again;
    units and norms must keep their names, and each row must give what it gives alone. Where
    that cannot be, or the batch is dynamic already, ``graph`` itself is returned: that of
    ``supernet``, not scaled by survival probabilities yet.
    """
    if graph.batch is not None or rows < 2:
        return graph
    try:
        exported = supernet.with_rows(rows).exported()
        others = (each for each in exported.dimensions if each.name != BATCH)
        batch = Dimension(BATCH, 1, rows, rows)
        found = replace(exported, dimensions=(batch, *others))
        _check_names(graph, found)
        _check_rows(graph, found)
        return found
    except (_UnfitError, SupernetError) as cause:
        first = str(cause).splitlines()[0]
        note(
            f"the batch stays as it was exported, which makes evaluation slow: {first}"
            " A network that takes a dynamic batch (--input Nx..., --batch) is faster."
        )
        return graph


def _check_names(graph: Network, found: Network) -> None:
    for what, names in (
        ("units", lambda g: [unit.name for unit in find_units(g.model).units]),
        ("norms", lambda g: [(n.name, n.channels, n.folds) for n in find_norms(g.model)]),
        ("outputs", lambda g: [spec.name for spec in g.outputs]),
    ):
        if names(graph) != names(found):
            raise _UnfitError(f"with a dynamic batch its {what} are others.")
    for spec in found.outputs:
        if spec.shape[:1] != (BATCH,):
            raise _UnfitError(f"the output {spec.name!r} does not have one row per sample.")


def _check_rows(graph: Network, found: Network) -> None:
    """Checks that rows of the graphs do not mix: together they give what each gives alone."""
    # Spread out: a range of values that the tolerance can be a share of.
    sizes = {**typical_sizes(found.dimensions), BATCH: _CHECKED_ROWS}
    together = draw_inputs(found.inputs, sizes, seed=0)
    # The graphs, which are what is evaluated: to load PyTorch's programs takes seconds.
    rows = _split(run_graph(found.model, [together])[0])
    expected, tolerance = run_graph(graph.model, _split(together)), graph.tolerance
    ranges = ranges_of(expected, least_around_one(expected, tolerance.least_range))
    apart = difference(rows, expected, ranges)
    if apart.unlike:
        raise _UnfitError(f"{apart.unlike} without.")
    if not apart.within(tolerance.relative):
        raise _UnfitError(
            "its rows depend on each other (outputs differ by"
            f" {apart.relative_error:.1g} of their range)."
        )


def _split(arrays: Case) -> list[Case]:
    return [
        {name: a[row : row + 1] for name, a in arrays.items()} for row in range(_CHECKED_ROWS)
    ]

"""Dense layers: without one, later layers read its features as zero, as in eager PyTorch."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.axes.width import WidthAxis
from skipc.compiler.errors import UnitError
from skipc.compiler.family import Family, family_of
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.norms.statistics import FamilyNorms, NormMode, NormStatistics
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.compiler.residual_scale import ResidualScale, Scaling, scaled
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.verify import verify_subnet
from tests.exports import ExportedOnce
from tests.zoo.dense_nets import DENSE_NETS
from tests.zoo.net import assert_close, case_for, module_of, tensors, zeroed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.axes.width import Widths
    from skipc.compiler.network import Network

    Case = dict[str, NDArray[np.float32]]

AXIS = SkipAxis()
EXAMPLES = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@cache
def family(name: str) -> Family:
    net = DENSE_NETS[name].net
    network = ExportedOnce(
        source=module_of(net),
        inputs=net.inputs,
        dimensions=(),
        output=None,
        model=net.name,
        survival={},
    ).exported()
    return family_of(network)


def fresh(name: str) -> Family:
    """Returns the family anew: no configuration of it is known."""
    return family_of(family(name).network)


def units(made: Family, *names: str) -> tuple[Unit, ...]:
    offer = made.offers["skip"]
    return AXIS.read(list(names), offer, "here") if names else ()


def case_of(name: str) -> Case:
    return case_for(DENSE_NETS[name].net, batch=1)


def eager(name: str, skipped: tuple[str, ...], widths: Widths = ()) -> NDArray[np.float32]:
    """Returns what eager PyTorch gives where layers read what is left out as zero."""
    net = DENSE_NETS[name]
    module = module_of(net.net)
    with ExitStack() as stack, torch.no_grad():
        for unit in skipped:
            if unit in net.beside:
                stack.enter_context(zeroed(module, net.beside[unit]))
            for read in net.units.get(unit, ()):
                places = np.arange(read.start, read.stop)
                stack.enter_context(without(module, read.module, places))
        offer = family(name).offers["width"]
        for group in offer.groups:
            for width in widths:
                if width.group == group.name:
                    gone = np.flatnonzero(~offer.kept(group, width.kept))
                    stack.enter_context(without(module, net.inner[group.name], gone))
        result = module(**{key: torch.tensor(array) for key, array in case_of(name).items()})
    return tensors(result)[0].numpy()


@contextmanager
def without(
    module: torch.nn.Module, reader: str, channels: NDArray[np.intp]
) -> Iterator[None]:
    """Lets a module read some channels as zero."""

    def hook(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x = args[0].clone()
        x[:, channels] = 0
        return x

    handle = module.get_submodule(reader).register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def verified(network: Network, folder: Path, case: Case) -> NDArray[np.float32]:
    """Returns what the reference gives, with which the graph was compared."""
    ir.save(network.model.clone(), folder / "net.onnx", external_data="net.data")
    onnx.checker.check_model(str(folder / "net.onnx"), full_check=True)
    found = verify_subnet(folder / "net.onnx", "any", network, [case])
    return next(iter(found.expected[0].values()))


@st.composite
def choices(draw: st.DrawFn) -> tuple[str, tuple[str, ...], Widths]:
    name = draw(st.sampled_from(sorted(DENSE_NETS)))
    offers = family(name).offers
    skipped = tuple(unit.name for unit in offers["skip"].units if draw(st.booleans()))
    groups = [each for each in offers["width"].groups if each.name in DENSE_NETS[name].inner]
    record = {group.name: draw(st.sampled_from([*group.counts])) for group in groups}
    return name, skipped, WidthAxis().read(record, offers["width"], "here")


@pytest.mark.parametrize("name", DENSE_NETS)
def test_dense_layers_are_units_with_what_they_cost(name: str) -> None:
    made, net = family(name), DENSE_NETS[name]
    offer, full = made.offers["skip"], made.network.model.graph
    assert [unit.name for unit in offer.units] == [*net.units, *net.beside]
    for rejected, fragment in zip(offer.rejected, net.rejected, strict=True):
        assert fragment in rejected.reason
    for unit in offer.units:
        rest = made.structure({"skip": (unit,)}).model.graph
        assert parameters(full) - parameters(rest) == unit.parameters > 0
        assert total_macs(full) - total_macs(rest) == unit.macs > 0


@given(drawn=choices())
@EXAMPLES
def test_without_dense_layers_their_features_are_zero_where_layers_read_them(
    drawn: tuple[str, tuple[str, ...], Widths], tmp_path: Path
) -> None:
    name, skipped, widths = drawn
    made, case = family(name), case_of(name)
    chosen = {"skip": units(made, *skipped), "width": widths}
    expected = eager(name, skipped, widths)
    assert_close(verified(made.subnet(chosen, "any").network, tmp_path, case), expected)
    # The supernet of an ONNX file is masked alike.
    reference = made.structure(chosen).reference
    masked = OnnxReference(
        made.network.model, narrowed=reference.narrowed, cuts=reference.cuts
    )
    (output,) = masked.run([case])[0].values()
    assert_close(output, expected)


FRONTS = {
    "torchvision": (
        (),
        ("block1.denselayer2",),
        ("block1.denselayer2", "block2"),
        ("block1",),
    ),
    "pairs": ((), ("layers.1",), ("layers.1", "layers.0"), ("layers",)),
}


@pytest.mark.parametrize("mode", [NormMode.SHARED, NormMode.SCALAR])
@pytest.mark.parametrize("name", FRONTS)
def test_configurations_share_every_kernel(name: str, mode: NormMode, tmp_path: Path) -> None:
    """Each tensor of a configuration is in the full network, and nothing is there twice."""
    made = fresh(name)
    fronts = [units(made, *skipped) for skipped in FRONTS[name]]
    names = [f"n{number}" for number in range(len(fronts))]
    if mode is NormMode.SCALAR:
        norms = find_norms(made.network.model)
        half = {n.name: np.full(n.channels, 0.5, np.float32) for n in norms}
        base = {norm: NormStatistics(array, array) for norm, array in half.items()}
        folds = {norm.name: 0.8 if norm.folds else None for norm in norms}
        own = {norm: NormStatistics(a, a, folds[norm]) for norm, a in half.items()}
        made = made.with_norms(FamilyNorms(mode, base, dict.fromkeys(names, own)))
    stored: list[set[bytes]] = []
    for configuration, choice in zip(names, fronts, strict=True):
        network = made.subnet({"skip": choice}, configuration).network
        verified(network, tmp_path, case_of(name))
        constants = [v.const_value for v in network.model.graph.initializers.values()]
        stored.append({each.tobytes() for each in constants if len(each.shape) > 1})
    assert all(one < stored[0] for one in stored[1:])
    plain = made.network.model.graph.initializers.values()
    kernels = [v.const_value for v in plain if len(v.const_value.shape) > 1]
    assert sum(map(len, stored[0])) == sum(kernel.nbytes for kernel in kernels)


def test_few_channels_are_not_split() -> None:
    made = fresh("residual-dense")
    choice = units(made, "first")
    kernels = [
        sum(node.op_type == "Conv" for node in made.subnet(chosen, "any").network.model.graph)
        for chosen in ({}, {"skip": choice})
    ]
    assert kernels == [5, 4]


def test_branches_of_dense_layers_cannot_be_scaled() -> None:
    scaling = Scaling(ResidualScale.ORIGINAL, {"layers": 0.5})
    with pytest.raises(UnitError, match=r"'layers.0': its features are concatenated"):
        scaled(family("pairs").network, scaling)


def test_the_densenet_that_comes_with_onnx_is_read() -> None:
    """An old file without module paths, its weights computed by operators."""
    file = Path(onnx.__file__).parent / "backend/test/data/light/light_densenet121.onnx"
    network = read_checkpoint(file, ModelOptions()).exported()
    found = family_of(network).offers["skip"]
    assert len(found.units) == 58

"""Channel width: a narrow graph computes what eager PyTorch does with those channels zero."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.axes.width import Width, WidthAxis
from skipc.compiler.axes.width_groups import find_groups
from skipc.compiler.errors import FrontError
from skipc.compiler.family import Family, family_of
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.norms.statistics import FamilyNorms, NormMode, NormStatistics
from skipc.compiler.read import TorchSupernet
from skipc.compiler.verify.onnx_reference import OnnxReference, run_graph
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle.tensors import Dimension
from tests.compiler.axes.width_nets import NETS
from tests.exports import ExportedOnce
from tests.zoo.net import Net, assert_close, case_for, module_of, tensors, zeroed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Case = dict[str, NDArray[np.float32]]


EXAMPLES = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@cache
def family(name: str) -> Family:
    net, _ = NETS[name]
    return family_of(exported(net))


def exported(net: Net) -> object:
    return ExportedOnce(
        source=module_of(net),
        inputs=net.inputs,
        dimensions=(),
        output=None,
        model=net.name,
        survival={},
    ).exported()


def read(name: str, record: object) -> tuple[Width, ...]:
    return WidthAxis().read(record, family(name).offers["width"], "here")


def units(name: str, *names: str) -> tuple[object, ...]:
    found = {unit.name: unit for unit in family(name).offers["skip"].units}
    return tuple(found[unit] for unit in names)


def eager(name: str, widths: tuple[Width, ...], skipped: tuple[str, ...], case: Case):
    """Returns what eager PyTorch gives where the layers read the other channels as zero."""
    net, groups = NETS[name]
    offer, module = family(name).offers["width"], module_of(net)
    by_name = {group.name: group for group in offer.groups}
    with ExitStack() as stack, torch.no_grad():
        for unit in skipped:
            stack.enter_context(zeroed(module, net.units[unit]))
        for width in widths:
            group = by_name[width.group]
            kept = offer.kept(group, width.kept)
            assert kept.sum() == width.kept
            kept = kept.repeat(group.size)
            for path in groups[width.group].modules:
                axis = groups[width.group].axis
                stack.enter_context(reading(module.get_submodule(path), kept, axis))
        result = module(**{key: torch.tensor(array) for key, array in case.items()})
    return tensors(result)[0].numpy()


@contextmanager
def reading(module: nn.Module, kept: NDArray[np.bool_], axis: int) -> Iterator[None]:
    """Lets a module read the other channels as zero."""

    def hook(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (x,) = args
        where = axis if x.ndim > 2 else 1
        mask = torch.tensor(kept, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1 - where))
        return x * mask

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def verified(network: object, folder: Path, name: str, case: Case) -> NDArray[np.float32]:
    """Returns what the reference gives, with which the graph was compared."""
    ir.save(network.model.clone(), folder / "net.onnx", external_data="net.data")
    found = verify_subnet(folder / "net.onnx", name, network, [case])
    return next(iter(found.expected[0].values()))


@st.composite
def choices(draw: st.DrawFn) -> tuple[str, dict[str, int], tuple[str, ...]]:
    name = draw(st.sampled_from(sorted(NETS)))
    groups = family(name).offers["width"].groups
    record = {
        group.name: draw(st.sampled_from([*group.counts, group.channels])) for group in groups
    }
    skipped = tuple(unit for unit in NETS[name][0].units if draw(st.booleans()))
    return name, record, skipped


@pytest.mark.parametrize("name", NETS)
def test_groups_are_the_inner_channels(name: str) -> None:
    offer = family(name).offers["width"]
    assert [group.name for group in offer.groups] == list(NETS[name][1])
    for group in offer.groups:
        one = (Width(group.name, group.counts[0], group.channels),)
        full = family(name).network
        narrow = WidthAxis().apply(full, one, offer)
        share = 1 - group.counts[0] / group.channels
        lost = parameters(full.model.graph) - parameters(narrow.model.graph)
        assert lost == round(share * group.parameters)
        lost = total_macs(full.model.graph) - total_macs(narrow.model.graph)
        assert lost == round(share * group.macs) > 0


def test_heads_are_followed_where_the_batch_is_dynamic() -> None:
    net = NETS["tokens"][0]
    (spec,) = net.inputs
    inputs = (replace(spec, shape=("N", *spec.shape[1:])),)
    made = TorchSupernet(
        module_of(net), inputs, (Dimension("N", 1, 2, 4),), None, net.name, {}
    )
    network = made.exported()
    groups, _ = find_groups(network.model)
    assert [group.name for group in groups] == list(NETS["tokens"][1])
    (narrow,) = (group for group in groups if group.size > 1)
    choice = (Width(narrow.name, 1, 2),)
    offer = WidthAxis().offer(network)
    x = np.random.default_rng(0).normal(size=(3, *spec.shape[1:])).astype(np.float32)
    graph = WidthAxis().apply(network, choice, offer).model
    (found,) = run_graph(graph, [{"x": x}])[0].values()
    assert_close(found, eager("tokens", choice, (), {"x": x}))


@given(drawn=choices())
@EXAMPLES
def test_a_narrow_network_is_the_network_with_those_channels_zero(drawn, tmp_path) -> None:
    name, record, skipped = drawn
    case = case_for(NETS[name][0], batch=1)
    widths = read(name, record)
    chosen = {"width": widths, "skip": units(name, *skipped)}
    network = family(name).subnet(chosen, "any").network
    found = verified(network, tmp_path, "any", case)
    assert_close(found, eager(name, widths, skipped, case))
    # The other order of the two makes the same graph.
    full, offers = family(name).network, family(name).offers
    first = WidthAxis().apply(full, widths, offers["width"])
    turned = SkipAxis().apply(first, chosen["skip"], offers["skip"]).model.graph
    assert total_macs(turned) == total_macs(network.model.graph)
    assert [n.op_type for n in turned] == [
        n.op_type for n in family(name).structure(chosen).model.graph
    ]


@pytest.mark.parametrize("mode", [NormMode.SHARED, NormMode.FULL])
@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("resnet", ({"2.reduce": 64}, {"2": 32})),
        ("tokens", ({"blocks.0": 0.5}, {"blocks.0": 16})),
        ("heads", ({"blocks": 3}, {"blocks.0": 1, "blocks.1": 2})),
    ],
)
def test_widths_share_every_weight(name, records, mode, tmp_path) -> None:
    """Parts of channels: each tensor is in the widest network, and all compute the same."""
    made = family_of(exported(NETS[name][0]))
    names = ("full", "some", "least")
    if mode is NormMode.FULL:
        norms = find_norms(made.network.model)
        half = {n.name: np.full(n.channels, 0.5, np.float32) for n in norms}
        own = {norm: NormStatistics(array, array) for norm, array in half.items()}
        made = made.with_norms(FamilyNorms(mode, own, dict.fromkeys(names, own)))
    offer = made.offers["width"]
    widths = [(), *(WidthAxis().read(record, offer, "here") for record in records)]
    stored: dict[str, set[bytes]] = {}
    for configuration, choice in zip(names, widths, strict=True):
        network = made.subnet({"width": choice}, configuration).network
        verified(network, tmp_path, configuration, case_for(NETS[name][0], batch=1))
        constants = [v.const_value for v in network.model.graph.initializers.values()]
        stored[configuration] = {each.tobytes() for each in constants if each.size > 16}
    assert stored["least"] < stored["some"] < stored["full"]
    # Nothing is in the full network twice: it is cut, not copied.
    plain = made.network.model.graph.initializers.values()
    assert sum(map(len, stored["full"])) <= sum(v.const_value.nbytes for v in plain)


@pytest.mark.parametrize("name", NETS)
def test_the_supernet_of_an_onnx_file_is_masked_alike(name: str) -> None:
    case = case_for(NETS[name][0], batch=1)
    full, offer = family(name).network, family(name).offers["width"]
    record = {group.name: group.counts[0] for group in offer.groups}
    reference = WidthAxis().apply(full, read(name, record), offer).reference
    masked = OnnxReference(full.model).with_narrowed(reference.narrowed).run([case])[0]
    (output,) = masked.values()
    assert_close(output, eager(name, read(name, record), (), case))


@pytest.mark.parametrize("mode", [NormMode.SCALAR, NormMode.FULL])
def test_norm_statistics_are_those_of_the_channels_that_stay(mode, tmp_path) -> None:
    full = family("resnet").network
    random = np.random.default_rng(0)

    def statistics(scale: float | None) -> dict[str, NormStatistics]:
        return {
            norm.name: NormStatistics(
                random.normal(size=norm.channels).astype(np.float32),
                base[norm.name].variance
                if scale
                else random.uniform(0.5, 2, norm.channels).astype(np.float32),
                scale,
            )
            for norm in find_norms(full.model)
        }

    base = {}
    base = statistics(None)
    own = statistics(0.8 if mode is NormMode.SCALAR else None)
    norms = FamilyNorms(mode, base, {"narrow": own})
    widths = read("resnet", {"1.conv1": 4})
    changed = family("resnet").with_norms(norms)
    network = changed.subnet({"width": widths}, "narrow").network
    case = case_for(NETS["resnet"][0], batch=1)
    found = verified(network, tmp_path, "narrow", case)
    assert not np.allclose(found, eager("resnet", widths, (), case))


def test_a_narrow_configurations_channels_are_among_a_wide_ones() -> None:
    offer = family("tokens").offers["width"]
    group = offer.groups[0]
    kept = [offer.kept(group, count) for count in (*group.counts, group.channels)]
    assert group.counts == range(16, 128, 16)
    assert all((wide | narrow == wide).all() for narrow, wide in pairwise(kept))
    # The importance is the size of what goes in and out.
    state = module_of(NETS["tokens"][0]).state_dict()
    weights = {
        part: state[f"blocks.0.{part}.weight"].double().norm(dim=axis).numpy()
        for part, axis in (("gate", 1), ("up", 1), ("down", 0))
    }
    best = np.argsort(-weights["gate"] * weights["up"] * weights["down"])[:16]
    assert set(np.flatnonzero(kept[0])) == set(best)


def test_channels_that_something_else_sees_are_no_group() -> None:
    weight = np.ones((8, 8, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["shuffled"]),
        helper.make_node("DepthToSpace", ["shuffled"], ["space"], blocksize=2),
        helper.make_node("SpaceToDepth", ["space"], ["depth"], blocksize=2),
        helper.make_node("Conv", ["depth", "w"], ["first"]),
        helper.make_node("Conv", ["first", "g"], ["grouped"], group=2),
        helper.make_node("Conv", ["x", "w"], ["second"]),
        helper.make_node("Relu", ["second"], ["read"]),
        helper.make_node("Conv", ["read", "w"], ["beside"]),
        helper.make_node("Concat", ["grouped", "beside"], ["y"], axis=1),
    ]
    images = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 4, 4])]
    weights = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(weight[:, :4], "g"),
    ]
    graph = helper.make_graph(nodes, "shown", images, outputs, weights)
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph))
    groups, refused = find_groups(ir.from_proto(model))
    assert [group.name for group in groups] == ["second"]
    assert refused == {
        "shuffled": "they meet the operator DepthToSpace",
        "first": "they meet a grouped convolution",
        "beside": "they meet the operator Concat",
    }
    refused = family("resnet").offers["width"].refused
    assert refused["1.conv2"] == "they meet a residual sum in module '1'"
    assert family("tokens").offers["width"].refused["head"].startswith("an output")


def test_the_longest_path_counts_and_a_share_is_a_number_of_channels() -> None:
    widths = read("inverted", {"1": 0.5, "1.squeeze": 4, "2.expand": 8})
    assert widths == (
        Width("1.expand.0", 12, 24),
        Width("1.squeeze", 4, 8),
        Width("2.expand.0", 8, 24),
    )
    axis = WidthAxis()
    assert axis.record(widths) == {"1.expand.0": 12, "1.squeeze": 4, "2.expand.0": 8}
    assert axis.taken(widths) == ("1.expand.0:12", "1.squeeze:4", "2.expand.0:8")
    assert axis.text(widths) == "3 groups 33-50 % wide"
    assert read("inverted", {"1.squeeze": 8}) == ()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([], "'width' must give module paths"),
        ({}, "'width' must give module paths"),
        ({"1": 0}, "'width' of '1' is 0, expected a number of channels"),
        ({"1": True}, "'width' of '1' is True"),
        ({"1": 1.5}, "'width' of '1' is 1.5"),
        ({"1": "half"}, "'width' of '1' is 'half'"),
    ],
)
def test_what_means_nothing_is_refused_before_the_network_is_read(record, said) -> None:
    with pytest.raises(FrontError, match=said):
        WidthAxis().check(record, "here")


@pytest.mark.parametrize(
    ("name", "record", "said"),
    [
        ("resnet", {"1.conf1": 4}, "'1.conf1' makes no channels that can be fewer. Did you"),
        ("resnet", {"1.conv2": 4}, "'1.conv2' cannot be fewer: they meet a residual sum"),
        ("resnet", {"1": 5}, "keeps 5 channels of '1.conv1', expected a multiple of 4"),
        ("resnet", {"1": 16}, "below its 8.* The nearest: 4 or 8"),
        (
            "inverted",
            {"1.expand": 0.75},
            r"keeps 18 channels of '1.expand.0' \(0.75 of them\)",
        ),
        ("tokens", {"blocks.0": 24}, "a multiple of 16 below its 128.* The nearest: 16 or 32"),
        ("heads", {"blocks": 0.3}, "keeps 1.2 heads of .* a whole number of its 4. The nea"),
        ("heads", {"blocks": 5}, "keeps 5 heads of 'blocks.0.q', expected a whole number of"),
    ],
)
def test_what_is_not_offered_is_refused(name, record, said) -> None:
    WidthAxis().check(record, "here")
    with pytest.raises(FrontError, match=f"^here: 'width'.*{said}"):
        read(name, record)

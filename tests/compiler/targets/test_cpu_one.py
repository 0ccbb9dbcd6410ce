"""One session for a family: its bits are those of a session of each configuration."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from skipc.compiler.errors import TargetError
from skipc.compiler.targets import finish
from skipc.compiler.targets.cpu.adapted import STATISTICS
from skipc.compiler.targets.cpu.one import Cutter, assembled, reason_to_try
from skipc.compiler.targets.cpu.optimized import UnsuitedError, loadable
from skipc.compiler.targets.cpu.switched import MASK, mask_of
from skipc.compiler.targets.options import TargetOptions
from skipc.runtime import AdaptiveEngine
from skipc.runtime.backends.host import host_key
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import EngineError, FormatError
from tests.bundles import edit_json, set_value
from tests.onnx_bundles import (
    conv_family,
    image_cases,
    token_cases,
    token_family,
    write_onnx_bundle,
)
from tests.zoo import NETS, case_for, exported

if TYPE_CHECKING:
    from skipc.compiler.axes.units import Unit
    from skipc.runtime.backends import Engine

ONE = TargetOptions(engines="one")
_FOLDERS: list[Path] = []

# Nested units, ends of units that ONNX Runtime fuses, norms and activations behind them, and
# weights that ONNX Runtime packs beside a line.
SWITCHED = ("torchvision-resnet", "residual-in-residual", "forms", "wide-branch")
# ONNX Runtime blocks layouts by 16 channels with AVX-512, and by 8 without: fused otherwise,
# these have units that hang together.
SWITCHED_BY_BLOCKS = ("squeeze-excite", "join-is-output")


@cache
def _assembled(name: str) -> tuple[Cutter, list[Unit], Engine]:
    """Returns a network of the zoo in one session."""
    network, units = exported(name)
    folder = Path(mkdtemp(prefix="skipc-one-"))
    _FOLDERS.append(folder)
    ir.save(network.model, folder / "whole.onnx", external_data="whole.data")
    cutter = Cutter(folder / "whole.onnx", folder)
    found = cutter.units([unit.name for unit in units.units])
    (folder / "full").mkdir()
    full = loadable(cutter.whole, folder / "full", [case_for(NETS[name])])
    conditions = mask_of([unit.name for unit in found])
    one = assembled(full, cutter, found, conditions, lambda line: None)
    return cutter, found, OnnxRuntimeCpu({"one": one}, full.data.name, 1).load("one")


@pytest.fixture(scope="module", autouse=True)
def _folders() -> Any:
    yield
    _assembled.cache_clear()
    while _FOLDERS:
        shutil.rmtree(_FOLDERS.pop())


@pytest.mark.parametrize("name", SWITCHED)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_mask_gives_the_bits_of_a_session_of_its_own(name: str, data: Any) -> None:
    _check_a_mask(name, data)


@pytest.mark.parametrize("name", SWITCHED_BY_BLOCKS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_is_fused_otherwise_elsewhere_has_these_bits_or_is_refused(
    name: str, data: Any
) -> None:
    refused = ""
    try:
        _check_a_mask(name, data)
    except UnsuitedError as error:
        refused = str(error)
    if refused:
        assert "avx512f" not in host_key("onnxruntime", "")["cpu_features"].split()
        assert re.search("fuses parts of the units|switched one by one", refused)


def _check_a_mask(name: str, data: Any) -> None:
    cutter, units, engine = _assembled(name)
    mask = data.draw(st.tuples(*(st.booleans() for _ in units)))
    case = case_for(NETS[name])
    skipped = [unit.name for unit, runs in zip(units, mask, strict=True) if not runs]
    (expected,) = cutter.outputs(skipped, [case])
    found = engine.run({**case, MASK: np.array(mask)})
    for output, array in expected.items():
        np.testing.assert_array_equal(found[output], array)


@pytest.mark.parametrize("name", ["pooling", "queries"])
def test_units_whose_fusions_depend_on_one_another_are_refused(name: str) -> None:
    with pytest.raises(UnsuitedError, match="ONNX Runtime fuses parts of the units"):
        _assembled(name)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one") / "tokens.skipc"
    write_onnx_bundle(path, token_family(), token_cases())
    finish(path, "cpu", options=ONE)
    return path


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family in which each graph has biases and scalars of its own, as norms leave them."""
    family = conv_family(blocks=3)
    for number, model in enumerate(family.values()):
        for tensor in model.graph.initializer:
            if tensor.name.startswith("b"):
                array = numpy_helper.to_array(tensor) + np.float32(0.1 * number)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        for place, node in [*enumerate(model.graph.node)][::-1]:
            if number and node.op_type == "Conv" and node.output[0] in ("c1", "c2"):
                scale = np.array(1 + 0.1 * number, np.float32)
                name, data = f"{node.output[0]}.scale", node.input[0]
                model.graph.initializer.append(numpy_helper.from_array(scale, name))
                node.input[0] = f"{name}d"
                model.graph.node.insert(
                    place, helper.make_node("Mul", [data, name], [f"{name}d"])
                )
    path = tmp_path_factory.mktemp("adapted") / "conv.skipc"
    write_onnx_bundle(path, family, image_cases())
    finish(path, "cpu", options=ONE)
    return path


def test_norms_that_are_adapted_are_a_setting_too(adapted: Path) -> None:
    engines = Bundle.open(adapted).engine_set("cpu")
    assert engines.switches is not None
    assert engines.switches.statistics == STATISTICS
    numbers = [entry.settings[STATISTICS] for entry in engines.engines]
    # Without blocks there is nothing of its own: the last graph has the first one's numbers.
    assert numbers == [(0,), (1,), (2,), (0,)]


def test_one_engine_runs_all_graphs(one: Path) -> None:
    engines = Bundle.open(one).engine_set("cpu")
    assert engines.switches is not None
    assert (engines.switches.graph, engines.switches.units) == ("skip0", ("a0", "a1", "a2"))
    assert {entry.file for entry in engines.engines} == {"skip0.onnx"}
    assert {file.path for file in engines.files} == {"skip0.onnx", "packed.bin"}
    assert [entry.settings[MASK] for entry in engines.engines] == [
        (True, True, True), (False, True, True), (False, False, True), (False, False, False)
    ]  # fmt: skip
    assert all(entry.latency for entry in engines.engines)


@pytest.mark.parametrize("family", ["one", "adapted"])
def test_the_engine_of_an_application_gives_the_bits_of_engines_of_their_own(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    one = request.getfixturevalue(family)
    each = Path(shutil.copytree(one, tmp_path / "each.skipc"))
    finish(each, "cpu", options=TargetOptions(engines="each"))
    case = Bundle.open(one).golden_inputs()[1]
    with AdaptiveEngine.open(one) as switched, AdaptiveEngine.open(each) as alone:
        for name in switched.configurations:
            switched.pin(name)
            alone.pin(name)
            expected = alone(case)
            for output, array in switched(case).items():
                np.testing.assert_array_equal(array, expected[output])


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("engines", 1, "settings", MASK), [True, False], "expected 3 booleans"),
        (("engines", 1, "settings", MASK), [1.0, 0.0, 1.0], "expected 3 booleans"),
        (("engines", 1, "settings"), {}, "sets .*expected"),
        (("engines", 0, "settings", MASK), [True, True, False], "expected all true"),
        (("engines", 2, "file"), "packed.bin", "one engine runs all graphs"),
        (("switches",), None, "sets .*expected"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    one: Path, tmp_path: Path, place: tuple[Any, ...], value: object, said: str
) -> None:
    path = Path(shutil.copytree(one, tmp_path / "bad.skipc"))
    edit_json(path / "engines/cpu/engines.json", set_value(*place, value=value))
    with pytest.raises(FormatError, match=said):
        Bundle.open(path).engine_set("cpu")


@pytest.mark.parametrize("number", [[], [3.5], [-1], [4]])
def test_a_number_that_is_no_configurations_is_refused(
    adapted: Path, tmp_path: Path, number: list[float]
) -> None:
    path = Path(shutil.copytree(adapted, tmp_path / "bad.skipc"))
    place = ("engines", 1, "settings", STATISTICS)
    edit_json(path / "engines/cpu/engines.json", set_value(*place, value=number))
    with pytest.raises(FormatError, match="expected one whole number below 4"):
        Bundle.open(path).engine_set("cpu")


def test_a_mask_of_another_length_than_the_engines_is_refused(one: Path) -> None:
    files = {"skip0": one / "engines/cpu/skip0.onnx"}
    backend = OnnxRuntimeCpu(files, "packed.bin", 1, {"skip0": {MASK: (True, False)}})
    with pytest.raises(EngineError, match=r"to 2 values, but its engine takes \[3\]"):
        backend.load("skip0")


def _family(kind: str) -> dict[str, Any]:
    family = conv_family(blocks=2)
    if kind == "alone":
        return {"skip0": family["skip0"]}
    other = conv_family(blocks=2, seed=1)
    return {"skip0": family["skip0"], "skip1": other["skip1"]}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("other weights", "graph 'skip1' is not the full one without some units: the weights"),
        ("alone", "nothing to switch"),
    ],
)
def test_a_family_that_one_session_cannot_hold_is_refused_in_a_sentence(
    tmp_path: Path, kind: str, said: str
) -> None:
    path = tmp_path / "net.skipc"
    write_onnx_bundle(path, _family(kind), image_cases())
    expected = rf"--engines one: .*{said}.*--engines each, or auto"
    with pytest.raises(TargetError, match=expected):
        finish(path, "cpu", options=ONE)
    assert Bundle.open(path).targets() == ()


def test_auto_says_what_it_chose_and_why(tmp_path: Path) -> None:
    path = tmp_path / "net.skipc"
    write_onnx_bundle(path, conv_family(blocks=2), image_cases())
    engines = finish(path, "cpu", options=TargetOptions(engines="auto"))
    assert engines.switches is None
    assert engines.chosen.startswith("an engine for each graph: few configurations")


def test_matrix_products_speak_for_one_session(one: Path) -> None:
    assert reason_to_try(Bundle.open(one)) == "a network of matrix products"


def test_a_deep_network_is_followed_value_by_value_and_not_way_by_way(tmp_path: Path) -> None:
    whole = tmp_path / "whole.onnx"
    onnx.save(token_family(layers=40)["skip0"], whole)  # 2^40 ways lead through it
    cutter = Cutter(whole, tmp_path)
    units = cutter.units(["a0", "a39"])
    full = loadable(whole, tmp_path, [])
    conditions = mask_of(["a0", "a39"])
    model = onnx.load(assembled(full, cutter, units, conditions, lambda line: None))
    assert sum(node.op_type == "If" for node in model.graph.node) == 2

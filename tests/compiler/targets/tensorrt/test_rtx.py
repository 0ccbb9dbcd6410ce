"""The builder for real, through TensorRT-RTX, which builds plans without a GPU."""

from __future__ import annotations

import _thread
import itertools
import signal
import threading
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.errors import TargetError
from skipc.compiler.targets import finish, unavailable_reason, unmeasurable_reason
from skipc.compiler.targets.options import TargetOptions
from skipc.compiler.targets.tensorrt.plan import (
    PlanSettings,
    build_plan,
    parse,
    possible_capabilities,
)
from skipc.profiles import load_profile
from skipc.runtime import AdaptiveEngine
from skipc.runtime.backends.tensorrt.library import open_library
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.onnx_graph import external_tensors
from skipc.runtime.errors import BackendUnavailableError
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.backends.tensorrt.library import Library


@pytest.fixture(scope="module")
def library() -> Library:
    return open_library("tensorrt-rtx")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_onnx_bundle(
        tmp_path / "conv.skipc", conv_family(blocks=2, channels=64), image_cases()
    )
    return tmp_path / "conv.skipc"


def settings(bundle: Bundle | None = None) -> PlanSettings:
    free = bundle.manifest.dimensions if bundle else ()
    return PlanSettings(TargetOptions(), free, stripped=False, capabilities=("8.6",))


def saved(
    tmp_path: Path, nodes: list[onnx.NodeProto], *initializers: onnx.TensorProto
) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [x], [y], list(initializers))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def weight(name: str, shape: tuple[int, ...], dtype: type = np.float32) -> onnx.TensorProto:
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    return numpy_helper.from_array(values, name)


def test_finish_builds_plans_that_shrink_with_what_is_skipped(path: Path) -> None:
    steps: list[str] = []
    engines = finish(path, "rtx", steps.append)
    sizes = [file.size_bytes for file in engines.files]
    assert sizes == sorted(sizes, reverse=True)
    kernel_bytes = 64 * 64 * 9 * 4
    for larger, smaller in itertools.pairwise(sizes):
        assert larger - smaller >= kernel_bytes
    assert engines.host["compute_capabilities"] == "8.0 8.6 8.9 12.0 12.1"
    left_out = [step for step in steps if "is left out" in step]
    assert len(left_out) == 1
    assert left_out[0].startswith("compute capability 7.5 is left out")
    assert "FP32 GEMM is not supported" in left_out[0]
    assert all(entry.weights_bytes == 0 and not entry.latency for entry in engines.engines)
    Bundle.open(path).verify_hashes()


def test_nothing_is_built_twice(path: Path) -> None:
    first = finish(path, "rtx")
    steps: list[str] = []
    second = finish(path, "rtx", steps.append)
    assert second == first
    assert steps[-3:] == [f"keeping skip{n} ({n + 1} of 3)" for n in range(3)]


def test_without_a_gpu_they_can_be_built_and_not_run(path: Path) -> None:
    profile = load_profile("rtx")
    assert unavailable_reason(profile) is None
    assert unmeasurable_reason(profile) is not None
    finish(path, "rtx")
    with pytest.raises(BackendUnavailableError, match="no GPU that CUDA can use"):
        AdaptiveEngine.open(path)


def test_a_dynamic_batch_gets_a_profile(path: Path, library: Library) -> None:
    bundle = Bundle.open(path)
    network = parse(library, "skip0", bundle.file("skip0.onnx"))
    details: list[str] = []
    plan = build_plan(library, "skip0", network, settings(bundle), b"", details.append)
    assert memoryview(plan.data).nbytes > 100_000
    assert plan.timing_cache == b""
    assert any(text.startswith("building engine, ") for text in details)
    network = parse(library, "skip0", bundle.file("skip0.onnx"))
    wanted = r"'skip0': tensorrt-rtx .* cannot build its engine: .*optimization profile"
    with pytest.raises(TargetError, match=wanted):
        build_plan(library, "skip0", network, settings(), b"", details.append)


def test_an_unsupported_operator_is_named(tmp_path: Path, library: Library) -> None:
    nodes = [helper.make_node("Det", ["x"], ["y"], name="stem/det")]
    with pytest.raises(TargetError, match=r"'fast': .* does not take net\.onnx: .*Det"):
        parse(library, "fast", saved(tmp_path, nodes))


def test_a_truncated_weight_store_is_the_reason_given(path: Path, library: Library) -> None:
    (path / "weights.bin").write_bytes(b"")
    with pytest.raises(TargetError, match=r"'skip0': .* does not take .*weights\.bin"):
        parse(library, "skip0", path / "skip0.onnx")


def test_a_damaged_graph_is_refused(path: Path, library: Library) -> None:
    (path / "skip0.onnx").write_bytes(b"\x08\x0a\x12")
    with pytest.raises(TargetError, match=r"'skip0': .* does not take skip0\.onnx: ."):
        parse(library, "skip0", path / "skip0.onnx")


def test_quantised_graphs_pass_through(tmp_path: Path, library: Library) -> None:
    scale = numpy_helper.from_array(np.float32(0.05), "scale")
    zero = numpy_helper.from_array(np.int8(0), "zero")
    kernel_scale = numpy_helper.from_array(np.full(8, 0.02, np.float32), "kernel_scale")
    kernel_zero = numpy_helper.from_array(np.zeros(8, np.int8), "kernel_zero")
    kernel = numpy_helper.from_array(np.ones((8, 8, 3, 3), np.int8), "kernel")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node(
            "DequantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["k"], axis=0
        ),
        helper.make_node("Conv", ["d", "k"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = saved(tmp_path, nodes, scale, zero, kernel, kernel_scale, kernel_zero)
    network = parse(library, "int8", graph)
    plan = build_plan(library, "int8", network, settings(), b"", lambda text: None)
    assert memoryview(plan.data).nbytes > 0


def test_unknown_capability_is_refused(path: Path, library: Library) -> None:
    network = parse(library, "skip0", path / "skip0.onnx")
    odd = PlanSettings(TargetOptions(), (), stripped=False, capabilities=("8.7",))
    with pytest.raises(TargetError, match=r"builds for no GPU of compute capability 8\.7"):
        build_plan(library, "skip0", network, odd, b"", lambda text: None)


def test_options_reach_the_real_builder(path: Path, library: Library) -> None:
    bundle = Bundle.open(path)
    network = parse(library, "skip0", bundle.file("skip0.onnx"))
    given = PlanSettings(TargetOptions(1 << 26, 0), bundle.manifest.dimensions, stripped=False,
                         capabilities=("8.6",))  # fmt: skip
    plan = build_plan(library, "skip0", network, given, b"", lambda text: None)
    assert memoryview(plan.data).nbytes > 0


def test_the_common_cause_is_told_where_no_generation_is_possible(
    tmp_path: Path, library: Library
) -> None:
    path = tmp_path / "wide.skipc"
    write_onnx_bundle(path, conv_family(blocks=1, channels=512), image_cases())
    bundle = Bundle.open(path)
    capabilities = ("7.5", "8.6", "8.9")
    tight = PlanSettings(TargetOptions(1), bundle.manifest.dimensions, False, capabilities)
    notes: list[str] = []
    with pytest.raises(TargetError, match=r"cannot build its engine: (?!.*FP32 GEMM)"):
        possible_capabilities(library, "skip0", path / "skip0.onnx", path, tight, notes.append)
    assert notes == []


def test_ctrl_c_ends_the_build(path: Path, library: Library) -> None:
    bundle = Bundle.open(path)
    network = parse(library, "skip0", bundle.file("skip0.onnx"))
    # A process that runs in the background ignores Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    pressed = threading.Event()

    def interrupt(text: str) -> None:
        del text
        if not pressed.is_set():
            pressed.set()
            _thread.interrupt_main()
            threading.Event().wait(0.5)  # the build must not be over before it is heard

    try:
        with pytest.raises(KeyboardInterrupt):
            build_plan(library, "skip0", network, settings(bundle), b"", interrupt)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "skipc-build" not in [thread.name for thread in threading.enumerate()]


def test_addresses_into_the_store_stand_for_its_files(path: Path, library: Library) -> None:
    """What a refit hands over: the parser takes it for the file's content, bit by bit."""
    trt, bundle = library.module, Bundle.open(path)
    graph = bundle.file("skip0.onnx")
    store = np.memmap(bundle.file("weights.bin"), np.uint8, mode="r")
    builder = trt.Builder(library.logger)
    definition = builder.create_network(0)
    parser = trt.OnnxParser(definition, library.logger)
    data = graph.read_bytes()
    assert parser.load_model_proto(data, str(graph))
    for tensor in external_tensors(graph):
        address = store.ctypes.data + tensor.offset_bytes
        assert parser.load_initializer(tensor.name, address, tensor.size_bytes)
    assert not parser.load_initializer("no such tensor", store.ctypes.data, 4)
    assert parser.parse_model_proto()
    parsed = parse(library, "skip0", graph).definition

    def kernels(network: object) -> list[bytes]:
        layers = [network.get_layer(i) for i in range(network.num_layers)]  # type: ignore[attr-defined]
        held = []
        for layer in layers:
            if layer.type == trt.LayerType.CONSTANT:
                layer.__class__ = trt.IConstantLayer
                held.append(np.asarray(layer.weights).tobytes())
            elif layer.type == trt.LayerType.CONVOLUTION:
                layer.__class__ = trt.IConvolutionLayer
                held.append(np.asarray(layer.kernel).tobytes())
        return held

    found, expected = kernels(definition), kernels(parsed)
    assert sum(map(len, expected)) > bundle.manifest.graphs[0].weights_bytes * 0.9
    assert found == expected

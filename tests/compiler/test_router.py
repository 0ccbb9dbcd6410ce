"""The file of a router, and its graph beside PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

from skipc.compiler.errors import RouterError
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.router import (
    SCORES,
    Router,
    RouterHeader,
    Way,
    check_router,
    network_of,
    read_router,
    write_router,
)
from skipc.compiler.verify.sessions import GraphRunner
from skipc.runtime.bundle.manifest import PartEntry
from skipc.runtime.bundle.routed import Biased
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.tools.training.router import looked_at, pool_of, trained

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.network import Network

SHA256 = "a" * 64
RNG = np.random.default_rng(0)


def layer(*shape: int) -> tuple[Any, Any]:
    return (
        RNG.standard_normal(shape).astype(np.float32),
        RNG.standard_normal(shape[0]).astype(np.float32),
    )


def router(shape: tuple[int | str, ...], *layers: Any, pool: int = 1, **spec: Any) -> Router:
    ways = tuple(Way(name, (PartEntry("", ()),), 0.5) for name in ("fast", "full"))
    looks_at = TensorSpec("x", spec.get("dtype", "float32"), shape)
    curve = (Biased(0.0, 0.9, (0.0, 0.5, 0.5)),)
    return Router(RouterHeader({"": SHA256}, looks_at, pool, ways, curve), layers)


IMAGES = router(("N", 3, 30, 33), layer(4, 3, 3, 3), layer(5, 4, 3, 3), layer(2, 5), pool=2)
POSITIONS = router(("N", 7, 6), layer(4, 6), layer(2, 4), dtype="float16")
FEATURES = router((1, 6), layer(2, 6))


@pytest.mark.parametrize("made", [IMAGES, POSITIONS, FEATURES])
def test_its_graph_is_what_pytorch_computes(made: Router, tmp_path: Path) -> None:
    spec = made.header.input
    rows = 1 if spec.shape[0] == 1 else 3
    batch = () if rows == 1 else (Dimension("N", 1, 1, 8),)
    network = network_of(made, batch, spec.shape[0])
    ir.save(network.model, tmp_path / "router.onnx")
    runner = GraphRunner(tmp_path / "router.onnx")
    case = {"x": RNG.standard_normal(spec.shape_at({"N": rows})).astype(spec.dtype)}
    (expected,) = network.reference.run([case])
    np.testing.assert_allclose(runner.run(case)[SCORES], expected[SCORES], 1e-5, 1e-6)
    assert expected[SCORES].shape == (rows, 2)
    named = {value.name for node in network.model.graph for value in node.outputs}
    assert {name for name, _ in network.reference.trace(case)} == named
    assert made.macs == _macs(network)


def _macs(network: Network) -> int:
    return int(total_macs(network.model.graph))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_router(path, IMAGES)
    found = read_router(path)
    assert found.header == IMAGES.header
    for own, read in zip(IMAGES.layers, found.layers, strict=True):
        np.testing.assert_array_equal(own[0], read[0])
        np.testing.assert_array_equal(own[1], read[1])


_NAN = (np.full((2, 6), np.nan, np.float32), np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (replace(FEATURES, layers=()), "it gives 6 scores for 2 ways"),
        (replace(FEATURES, layers=(layer(3, 6),)), "it gives 3 scores for 2 ways"),
        (replace(FEATURES, layers=(layer(2, 5),)), r"layer 0 is .* for 6 channels"),
        (replace(FEATURES, layers=(layer(2, 6, 3, 3),)), "layer 0 is float32 of"),
        (replace(IMAGES, layers=(layer(4, 3, 5, 5), layer(2, 4))), "layer 0 is float32 of"),
        (replace(IMAGES, layers=(layer(4, 3), layer(4, 4, 3, 3))), "layer 1 is float32 of"),
        (
            replace(FEATURES, layers=((layer(2, 6)[0], layer(3, 6)[1]),)),
            "the bias or the weights",
        ),
        (replace(FEATURES, layers=(_NAN,)), "the bias or the weights of layer 0"),
        (replace(FEATURES, layers=((layer(2, 6)[0].astype("f8"), layer(2)[1]),)), "float64"),
        (
            replace(
                FEATURES, header=replace(FEATURES.header, curve=(Biased(-1, 0.9, (1.0,)),))
            ),
            "the bias -1",
        ),
        (replace(FEATURES, header=replace(FEATURES.header, ways=())), "'ways'"),
        (replace(FEATURES, header=replace(FEATURES.header, pool=0)), "'pool'"),
    ],
)
def test_what_cannot_run_is_refused(made: Router, says: str, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_router(path, made)
    with pytest.raises(RouterError, match=says):
        read_router(path)


@pytest.mark.parametrize("content", [b"", b"x" * 64])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    path.write_bytes(content)
    with pytest.raises(RouterError, match=r"damaged safetensors file.*`skipc router`"):
        read_router(path)


def test_it_is_of_its_weights_and_its_input(tmp_path: Path) -> None:
    path, inputs = tmp_path / "r", [FEATURES.header.input]
    check_router(FEATURES, path, {"": SHA256}, inputs)
    with pytest.raises(RouterError, match="trained for other weights than those of this net"):
        check_router(FEATURES, path, {"": "b" * 64}, inputs)
    with pytest.raises(RouterError, match="looks at the input 'x', float32 1x6"):
        check_router(FEATURES, path, {"": SHA256}, [TensorSpec("x", "float32", (1, 7))])
    with pytest.raises(RouterError, match="looks at the input 'x'"):
        check_router(FEATURES, path, {"": SHA256}, [TensorSpec("y", "float32", (1, 6))])


def test_what_has_no_numbers_cannot_be_looked_at() -> None:
    ids, mask = TensorSpec("ids", "int64", ("N", 8)), TensorSpec("mask", "bool", ("N", 8))
    assert looked_at([ids, IMAGES.header.input]) is IMAGES.header.input
    with pytest.raises(RouterError, match=r"no input .* ids \(int64 Nx8\), mask \(bool Nx8\)"):
        looked_at([ids, mask])
    assert [pool_of(each.header.input) for each in (IMAGES, POSITIONS)] == [1, 1]


def test_training_finds_what_the_input_tells_and_repeats_itself(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", ("N", 2))
    inputs = (5 + 3 * RNG.standard_normal((400, 2))).astype(np.float32)
    right = np.stack([inputs[:, 0] > 5, np.ones(400, bool)])
    made = [
        trained(
            spec, (inputs[:300], right[:, :300]), (inputs[300:], right[:, 300:]), 0, _silent
        )
        for _ in range(2)
    ]
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    network = network_of(
        replace(router(("N", 2)), layers=made[0]), (Dimension("N", 1, 1, 400),), "N"
    )
    (found,) = network.reference.run([{"x": inputs[300:]}])
    assert ((found[SCORES][:, 0] > 0.5) == right[0, 300:]).mean() > 0.9


def _silent(done: int, total: int) -> None:
    assert done <= total

"""Routes of several stages on the CPU: pieces of what ONNX Runtime made of the whole."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from skipc.compiler.axes.exit_places import places_of
from skipc.compiler.build import BuildOptions, build_bundle
from skipc.compiler.heads import write_heads
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.compiler.targets import finish
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import Dimension
from tests.doubles.gpu import fake_gpu
from tests.exits import heads_for
from tests.zoo import exported, supernet

# Whether the tensors at the exits are there in what ONNX Runtime made of the whole.
NETS = {"resnet-any-batch": True, "convnext": False, "vit-any-batch": True, "swin": True}


@pytest.fixture(scope="module", params=NETS)
def built(request, tmp_path_factory):
    """A network, its bundle with engines, and what building them told."""
    folder = tmp_path_factory.mktemp(request.param)
    network, _ = exported(request.param)
    names = [place.name for place in places_of(network)][:2]
    checkpoint = folder / "ckpt.pt"
    checkpoint.write_bytes(b"weights")
    write_heads(checkpoint, heads_for(network, names))
    exits = [*names, "end"]
    tests = [{"threshold": 0.5}] * len(names)
    front = {
        "format": "skipc.front/2",
        "configurations": [
            {"name": "full"},
            {"name": "early", "exits": exits, "tests": tests},
        ],
    }
    (folder / "front.json").write_text(json.dumps(front))
    read = supernet(request.param)
    if any(each.minimum > 1 for each in read.dimensions):
        read = replace(read, dimensions=(Dimension("N", 1, 2, 3),))
    made = build_bundle(read, checkpoint, folder / "front.json", BuildOptions())
    told: list[str] = []
    finish(made, "cpu", told.append)
    return request.param, Bundle.open(made), told


def test_pieces_are_cut_behind_the_optimiser_where_they_can_be(built):
    name, _, told = built
    cut_before = any("before it is optimised" in line for line in told)
    assert cut_before is not NETS[name]


def test_every_stage_answers_as_the_reference_and_rows_leave_one_by_one(built):
    _, bundle, _ = built
    entry = bundle.manifest.configuration("early")
    spec = bundle.manifest.outputs[0]
    limit = 1e-4 * bundle.manifest.ranges(entry)[spec.name]
    with AdaptiveEngine.open(bundle.path, threads=1) as engine:
        engine.pin("early")
        for number, case in enumerate(bundle.golden_inputs()):
            rows = next(iter(case.values())).shape[0] if bundle.manifest.batch else 1
            together = engine(case)[spec.name]
            for row in range(rows):
                one = {k: v[row : row + 1] for k, v in case.items()} if rows > 1 else case
                answer = engine(one)[spec.name]
                assert engine.last is not None
                wanted = bundle.golden_outputs("early", engine.last.stage)[number][spec.name]
                assert np.abs(answer - wanted[row : row + 1]).max() <= limit
                assert np.array_equal(together[row : row + 1], answer)


def test_nothing_is_packed_twice(built):
    name, bundle, _ = built
    engines = bundle.engine_set("cpu")
    sizes = {engine.graph: engine.weights_bytes for engine in engines.engines}
    pieces = sum(size for graph, size in sizes.items() if graph.startswith("early."))
    heads = sum(
        graph.own_bytes for graph in bundle.manifest.graphs if graph.name.startswith("early.")
    )
    if NETS[name]:
        assert pieces - sizes["full"] <= 2 * heads + 4096


def test_on_a_gpu_each_piece_is_an_engine_of_its_own(built, monkeypatch):
    check_on_a_gpu(built[1], monkeypatch, addresses=True)


@pytest.mark.parametrize("built", ["resnet-any-batch"], indirect=True)
def test_without_addresses_pieces_hand_over_all_the_same(built, monkeypatch):
    check_on_a_gpu(built[1], monkeypatch, addresses=False)


def check_on_a_gpu(bundle, monkeypatch, addresses):
    """Asserts that engines built on a GPU's double answer as the reference does."""
    entry, spec = bundle.manifest.configuration("early"), bundle.manifest.outputs[0]
    limit = 1e-4 * bundle.manifest.ranges(entry)[spec.name]
    with fake_gpu(monkeypatch, addresses=addresses) as gpu:
        engines = finish(bundle.path, "tensorrt")
        for one in engines.engines:
            assert one.latency
            assert one.piece_file == ("" if one.graph == "full" else f"{one.graph}.onnx")
        with AdaptiveEngine.open(bundle.path, target="tensorrt") as engine:
            engine.pin("early")
            for number, case in enumerate(bundle.golden_inputs()):
                one_row = {name: array[:1] for name, array in case.items()}
                answer = engine(one_row if bundle.manifest.batch else case)[spec.name]
                assert engine.last is not None
                wanted = bundle.golden_outputs("early", engine.last.stage)[number][spec.name]
                assert np.abs(answer[:1] - wanted[:1]).max() <= limit
        gpu.check()


@pytest.mark.parametrize("built", ["resnet-any-batch"], indirect=True)
def test_pieces_are_built_ahead_without_a_gpu(built):
    _, bundle, _ = built
    steps: list[str] = []
    engines = finish(bundle.path, "rtx", steps.append)
    total = len(bundle.manifest.graphs)
    assert f"building early.0 (2 of {total})" in steps
    assert not any(one.piece_file for one in engines.engines)  # plans hold their weights
    files = sorted(file.path.split(".plan")[0][:-17] for file in engines.files)
    assert files == sorted(graph.name for graph in bundle.manifest.graphs)
    again: list[str] = []
    assert finish(bundle.path, "rtx", again.append) == engines
    assert f"keeping early.0 (2 of {total})" in again


def test_a_copy_in_another_layout_does_not_take_the_name_of_what_is_handed_over(tmp_path):
    # The end reads what the exit reads: ONNX Runtime keeps that in its blocked layout, and a
    # copy for the end under the name that the manifest has for it.
    arguments = {"widths": [16], "depths": [2]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = find_recipe("resnet").load()(**arguments)
    inputs = find_recipe("resnet").inputs
    checkpoint = tmp_path / "ckpt.pt"
    save_checkpoint(
        checkpoint, CheckpointFile("skipc:resnet", arguments, module.state_dict(), inputs)
    )
    read = read_checkpoint(checkpoint, ModelOptions())
    write_heads(checkpoint, heads_for(read.exported(), ["stages.0.0"]))
    route = {"name": "early", "skip": ["stages.0.1"], "exits": ["stages.0.0", "end"],
             "tests": [{"threshold": 2.0}]}  # fmt: skip
    front = {"format": "skipc.front/2", "configurations": [route]}
    (tmp_path / "front.json").write_text(json.dumps(front))
    made = build_bundle(read, checkpoint, tmp_path / "front.json", BuildOptions())
    finish(made, "cpu")
    bundle = Bundle.open(made)
    with AdaptiveEngine.open(made, threads=1) as engine:
        for number, case in enumerate(bundle.golden_inputs()):
            wanted = bundle.golden_outputs("early", 1)[number]["output"]
            np.testing.assert_allclose(engine(case)["output"], wanted, atol=1e-4)

"""Gates from the command line: front, build, check, and calls, each row by itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from skipc.compiler.axes.gates import Gated, GatesAxis
from skipc.compiler.errors import TargetError
from skipc.compiler.gates import read_gates, write_gates
from skipc.compiler.read import ModelOptions
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.compiler.targets.cuda.finish import build_on
from skipc.compiler.targets.options import TargetOptions
from skipc.compiler.targets.tensorrt.finish import build_engines
from skipc.profiles import load_profile
from skipc.runtime import AdaptiveEngine
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.runtime.backends.onnxruntime.devices import cpu_device
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.gates import CAP, DECISIONS, THRESHOLDS
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.runtime.call.chain import Reached
from skipc.runtime.call.trace import read_trace, trace_lines, trace_of
from skipc.runtime.errors import FormatError
from skipc.runtime.load.gated import Gated as GatedUnits
from skipc.tools.report.page import page_of
from skipc.tools.report.study import read_study
from skipc.tools.trtbench.decided import decided
from skipc.tools.trtbench.report import read_report
from tests.bundles import edit_json, set_value
from tests.command_line import mistake, skipc, trtbench
from tests.exports import kept_export
from tests.gates import random_gates
from tests.zoo.image_nets import preactivation

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.network import Network
    from skipc.runtime.backends import Engine

BATCH = (Dimension("N", 1, 2, 4),)
HOW = ("--input", "images=Nx1x8x8", "--batch", "1:2:4")
UNITS = ("stages.0.0", "stages.1.0", "stages.1.0:2", "stages.2.0", "stages.2.0:2")
"""What gates decide about: the first unit has too few channels to tell parts of them apart."""
WHOLE = [0, 1, 3]
"""Which of these are units."""
FRONT = {
    "format": "skipc.front/2",
    "configurations": [
        {"name": "full"},
        {"name": "gated", "gates": {}},
        {"name": "gated-cap1", "gates": {"cap": 1}},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gates")
    recipe = find_recipe("resnet")
    arguments = {"widths": [4, 8, 8], "depths": [1, 1, 1]}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = recipe.load()(**arguments)
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    state = network.state_dict()
    save_checkpoint(
        path / "ckpt.pt", CheckpointFile("skipc:resnet", arguments, state, recipe.inputs)
    )
    write_gates(path / "ckpt.pt", random_gates(_network(path), channels=2))
    (path / "front.json").write_text(json.dumps(FRONT), encoding="utf-8")
    ended = skipc(
        *("build", path / "ckpt.pt", "--front", path / "front.json", "--target", "cpu", *HOW),
    )
    assert ended.code == 0, ended.err
    return path


@cache
def _network(folder: Path) -> Network:
    inputs = (TensorSpec("images", "float32", ("N", 1, 8, 8)),)
    options = ModelOptions(inputs=inputs, dimensions=BATCH)
    return kept_export(folder / "ckpt.pt", options)


def _gated(folder: Path, cap: int | None) -> Network:
    """Returns the network with its gates, as PyTorch runs it."""
    network = replace(_network(folder), gates=read_gates(folder / "ckpt.pt"))
    offer = GatesAxis().offer(network)
    return GatesAxis().apply(network, Gated(offer.names, cap), offer)


def _engine(bundle: Bundle, graph: str) -> Engine:
    engines, place = bundle.engine_set("cpu"), bundle.engine_dir("cpu")
    files = {entry.graph: place / entry.file for entry in engines.engines}
    settings = {entry.graph: entry.settings for entry in engines.engines}
    return OnnxRuntimeCpu(files, engines.packed_file, 1, settings).load(graph)


@pytest.fixture(scope="module")
def images() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Images between dark and bright, so that what gates see differs."""
    rng = np.random.default_rng(3)
    light = rng.normal(0, 3, (200, 1, 1, 1))
    return rng.normal(light, 1, (200, 1, 8, 8)).astype(np.float32)


def test_a_bundle_tells_of_its_gates(folder: Path) -> None:
    bundle = Bundle.open(folder / "ckpt.skipc")
    graph = bundle.manifest.graph("gated-cap1")
    assert graph.gates == UNITS
    assert graph.gate_parts == (1, 2, 2)
    assert [spec.kind for spec in graph.outputs] == ["float32 Nx10", "bool Nx5"]
    entries = bundle.engine_set("cpu").engines
    assert [entry.file for entry in entries] == ["full.onnx", *["gated.onnx"] * 2]
    assert [entry.settings.get(CAP) for entry in entries] == [None, (3,), (1,)]
    shown = skipc("show", folder / "ckpt.skipc").out
    assert "5 gates, at most 1 unit" in shown
    checked = skipc("check", folder / "ckpt.skipc")
    assert checked.code == 0, checked.err


def test_an_engine_decides_as_pytorch_does_for_every_row(folder: Path, images) -> None:
    bundle = Bundle.open(folder / "ckpt.skipc")
    seen = []
    for name, cap in (("gated", None), ("gated-cap1", 1)):
        engine = _engine(bundle, name)
        network = _gated(folder, cap)
        (expected,) = network.reference.run([{"images": images}])
        found = engine.run({"images": images})
        np.testing.assert_array_equal(found[DECISIONS], expected[DECISIONS])
        output = network.outputs[0].name
        np.testing.assert_allclose(found[output], expected[output], rtol=1e-4, atol=1e-4)
        seen.append(found[DECISIONS])
        # A batch is what its rows are, to the bit.
        for row in range(3):
            alone = engine.run({"images": images[row : row + 1]})
            np.testing.assert_array_equal(alone[output][0], found[output][row])
    gated, capped = seen
    assert 0 < gated.mean() < 1
    assert len(np.unique(gated, axis=0)) > 1
    assert capped[:, WHOLE].sum(1).max() == 1
    # A part runs with its unit alone, and not always then.
    units, parts = gated[:, [1, 3]], gated[:, [2, 4]]
    assert not (parts & ~units).any()
    assert (units & ~parts).any()


def test_the_benchmark_tells_what_ran_and_the_report_shows_it(
    folder: Path, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    results = [tmp_path / "4.json", tmp_path / "1.json"]
    for rows, result in zip((4, 1), results, strict=True):
        np.savez(tmp_path / "images.npz", images=images[:rows])
        arguments = ("--loadInputs", tmp_path / "images.npz", "--json", result)
        ended = trtbench(folder / "ckpt.skipc", "--duration", 0, *arguments)
        assert ended.code == 0, ended.err
        assert "what ran in gated" in ended.out
    four, one = map(read_report, results)
    runs = _engine(Bundle.open(folder / "ckpt.skipc"), "gated").run({"images": images[:4]})
    full, gated, capped = four.configurations
    assert full.decided == ()
    told = gated.decided[0]
    assert (told.group, told.inputs) == ("all inputs", 4)
    np.testing.assert_allclose([*told.ran.values()], runs[DECISIONS].mean(0))
    assert tuple(told.ran) == UNITS
    assert sum(capped.decided[0].ran[UNITS[number]] for number in WHOLE) <= 1
    assert [each.inputs for each in one.configurations[1].decided] == [1]
    study = read_study(folder / "ckpt.skipc", results[:1], tmp_path / "page.html")
    (section,) = (each for each in page_of(study).sections if each.name == "decided")
    assert section.content.count("what ran, in per cent") == 2
    assert f">{100 * told.ran[UNITS[0]]:.0f}</td>" in section.content


def _reached(answer: list[float], ran: dict[str, float]) -> Reached:
    outputs = {"output": np.array([answer], np.float32)}
    return Reached(outputs, 0, True, "end", ("gated",), ran)


def test_inputs_are_told_apart_by_answer_and_sureness(folder: Path) -> None:
    """The surer the answer, the fewer units ran."""
    manifest = Bundle.open(folder / "ckpt.skipc").manifest
    seen = [_reached([n / 4, 0], {"a": 1 - n / 15}) for n in range(16)]
    found = decided(seen, manifest, routed=False)
    shares = {each.group: (each.inputs, round(15 * each.ran["a"], 3)) for each in found}
    assert shares == {
        "all inputs": (16, 7.5),
        "answer 0": (16, 7.5),
        "surest quarter": (4, 1.5),
        "second quarter": (4, 5.5),
        "third quarter": (4, 9.5),
        "least sure quarter": (4, 13.5),
    }


def test_no_cap_is_broken_whatever_the_thresholds(folder: Path, images) -> None:
    engine = _engine(Bundle.open(folder / "ckpt.skipc"), "gated")
    rng = np.random.default_rng(0)
    for image in images:
        cap = rng.integers(0, 4, 1)
        thresholds = rng.normal(0, 2, len(UNITS)).astype(np.float32)
        found = engine.run({"images": image[None], CAP: cap, THRESHOLDS: thresholds})
        assert found[DECISIONS][:, WHOLE].sum() <= cap


def test_an_application_calls_gates_and_is_told_what_ran(
    folder: Path, images, tmp_path: Path
) -> None:
    engine = _engine(Bundle.open(folder / "ckpt.skipc"), "gated")
    expected = engine.run({"images": images[:4]})
    with AdaptiveEngine.open(folder / "ckpt.skipc") as opened:
        opened.pin("gated")
        np.testing.assert_array_equal(opened(images[:4]), next(iter(expected.values())))
        assert opened.last is not None
        shares = expected[DECISIONS].mean(0).tolist()
        assert opened.last.units == dict(zip(UNITS, shares, strict=True))
        opened.pin("full")
        opened(images[:1])
        trace = trace_of("gates", opened.stats(), opened.trace())
    (tmp_path / "calls.jsonl").write_text("".join(trace_lines(trace)))
    found = [call.units for call in read_trace(tmp_path / "calls.jsonl").calls]
    assert found == [dict(zip(UNITS, shares, strict=True)), {}]
    told = skipc("trace", tmp_path / "calls.jsonl").out.splitlines()
    assert told[0].split()[-2:] == ["units", "run"]
    gated = next(line for line in told if line.startswith("gated "))
    assert gated.endswith(f"{sum(shares):.1f} of 5")


def test_other_targets_refuse_gates_with_the_reason(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(folder / "ckpt.skipc")
    profile = load_profile("jetson-orin")
    with pytest.raises(TargetError, match="'gated': its units run or not as gates decide"):
        build_engines(bundle, profile, TargetOptions(), tmp_path, lambda line: None)
    with pytest.raises(TargetError, match="'gated': its units run or not as gates decide"):
        build_on(cpu_device(), bundle, tmp_path, lambda line: None)
    said = mistake("finish", folder / "ckpt.skipc", "--engines", "one")
    assert "in configuration 'gated' gates decide" in said


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("gates", ["stages.0.0"], r"'gates' names 1 units, .*Expected"),
        ("gate_parts", [3, 3], r"'gate_parts' is \[3, 3\], expected .* the 5 of 'gates'"),
        ("gate_parts", [5, 0], r"'gate_parts\[1\]' must be a whole number of at least 1"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    folder: Path, tmp_path: Path, key: str, value: list[object], says: str
) -> None:
    path = tmp_path / "bad.skipc"
    shutil.copytree(folder / "ckpt.skipc", path)
    edit_json(path / "manifest.json", set_value("graphs", 1, key, value=value))
    with pytest.raises(FormatError, match=says):
        Bundle.open(path)


def test_what_few_units_ran_for_is_compared_with_their_work(folder: Path) -> None:
    bundle = Bundle.open(folder / "ckpt.skipc")
    manifest, engines = bundle.manifest, bundle.engine_set("cpu")
    macs = {option.name: option.macs for option in manifest.options("gates")}
    whole = manifest.graph("gated").macs
    works = {}
    for name in ("gated", "gated-cap1"):
        gated = GatedUnits.of(manifest, manifest.graph(name), engines)
        rows = np.array([[True, True, False, False, False], [False] * 5])
        works[name] = gated.work(rows) * gated.most_macs
        assert gated.work(np.zeros((1, 5), bool)) < 1
    expected = whole - sum(macs.values()) + (macs[UNITS[0]] + macs[UNITS[1]]) / 2
    assert [*works.values()] == pytest.approx([expected, expected])
    capped = GatedUnits.of(manifest, manifest.graph("gated-cap1"), engines)
    assert capped.work(np.array([[True, *[False] * 4]])) == 1
    everything = GatedUnits.of(manifest, manifest.graph("gated"), None)
    assert everything.work(np.ones((1, 5), bool)) == 1


def test_gates_are_trained_for_a_network_that_stays_as_it_is(tmp_path: Path) -> None:
    """It is trained on batches, though its batch is fixed: values get other names there."""
    checkpoint, data, units = tmp_path / "ckpt.pt", tmp_path / "data.npz", ("2", "3")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(60, 3, 8, 8)).astype(np.float32)
    np.savez(data, x=images, y=rng.integers(0, 5, 60))
    with torch.random.fork_rng(devices=[]):
        torch.save(preactivation().state_dict(), checkpoint)
    before = checkpoint.read_bytes()
    model = ("--model", "tests.zoo.image_nets:preactivation", "--input", "x=1x3x8x8")
    ended = skipc(
        *("gates", checkpoint, "--data", data, "--epochs", "1", "--target", "0.7"),
        *("--at", ",".join(units), "--channels", "3", *model),
    )
    assert ended.code == 0, ended.err
    assert checkpoint.read_bytes() == before
    gates = read_gates(checkpoint)
    assert gates is not None
    assert [gate.name for gate in gates.gates] == [*units]
    assert [np.bincount(gate.parts).tolist() for gate in gates.gates] == [[4, 4, 4]] * 2
    decided = [name for gate in gates.gates for name in gate.decided]
    assert decided == ["2", "2:2", "2:3", "3", "3:2", "3:3"]
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[0] for row in rows[1:7]] == decided
    assert ended.out.endswith("Write 'gates' into configurations of front.json.\n")
    listed = skipc("units", checkpoint, *model).out.split("gates")[1].split("\n\n")[0]
    assert [line.split()[1] for line in listed.splitlines()[1:]] == decided


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--at", "stages.9"], "--at 'stages.9': no gate goes there."),
        (["--target", "0.05"], "of the network's operations always run"),
        (["--channels", "3"], "--channels 3: no branch has more than 2 parts of channels"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    folder: Path, options: list[str], says: str
) -> None:
    told = mistake(
        "gates", folder / "ckpt.pt", "--data", "digits", "--samples", "60", *HOW, *options
    )
    assert says in told

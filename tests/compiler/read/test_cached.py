"""Checkpoints exported once: what is taken from the cache is what an export would give."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import onnx_ir as ir
import pytest
import torch

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.read import ModelOptions, ProgramSupernet, read_checkpoint
from skipc.compiler.read import cached as reading
from skipc.compiler.read.cached import CachedSupernet, open_checkpoint
from skipc.compiler.read.export_cache import ExportCache
from skipc.compiler.read.export_files import Export, load_export, save_export
from skipc.compiler.read.export_key import export_key
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.compiler.recipes.resnet import ResNet
from skipc.compiler.verify.golden import draw_inputs
from skipc.runtime.bundle.tensors import BatchRange, TensorSpec
from tests.zoo import NETS, WITH_UNITS, exported

PLAIN = ModelOptions()
TAKEN = "the export is taken from the cache"


class Reading:
    """Opens checkpoints with a cache, and counts what is read."""

    def __init__(self, folder, monkeypatch) -> None:
        self.notes: list[str] = []
        self.steps: list[str] = []
        self.reads = 0
        self.folder = folder / "exports"
        monkeypatch.setattr(reading, "read_checkpoint", self._read)

    def _read(self, path, options):
        self.reads += 1
        return read_checkpoint(path, options)

    def open(self, path, options=PLAIN):
        self.steps.clear()
        return open_checkpoint(
            path, options, ExportCache(self.folder, self.notes.append), self.steps.append
        )

    def entry(self):
        (entry,) = self.folder.iterdir()
        return entry


@pytest.fixture
def opening(tmp_path, monkeypatch):
    return Reading(tmp_path, monkeypatch)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = ResNet(widths=(4, 4, 8))
    path = tmp_path / "ckpt.pt"
    save_checkpoint(
        path, CheckpointFile("skipc:resnet", {"widths": [4, 4, 8]}, network.state_dict())
    )
    return path


def same(made, found):
    """Whether two networks are one, seen from outside."""
    case = draw_inputs(made.inputs, 2 if made.batch else 1, seed=3)
    return (
        (made.inputs, made.outputs, made.batch, made.description, made.tolerance)
        == (found.inputs, found.outputs, found.batch, found.description, found.tolerance)
        and find_units(made.model) == find_units(found.model)
        and find_norms(made.model) == find_norms(found.model)
        and ir.to_proto(made.model.graph).node == ir.to_proto(found.model.graph).node
        and all(
            np.array_equal(value, found_value)
            for one, other in [(made.reference.run([case])[0], found.reference.run([case])[0])]
            for value, found_value in zip(one.values(), other.values(), strict=True)
        )
        and [name for name, _ in made.reference.trace(case)]
        == [name for name, _ in found.reference.trace(case)]
    )


def test_the_second_export_is_taken_from_the_cache(opening, checkpoint):
    made = opening.open(checkpoint).exported()
    assert (opening.steps, opening.notes) == ([], [])
    found = opening.open(checkpoint).exported()
    assert opening.steps == [TAKEN]
    assert opening.reads == 1
    assert opening.notes == []
    assert same(made, found)


def test_one_supernet_is_exported_once(opening, checkpoint):
    opened = opening.open(checkpoint)
    assert opened.exported() is opened.exported()
    assert opened.residual_scale == "inverted"
    assert opening.reads == 1


def test_without_a_cache_nothing_is_kept(opening, checkpoint):
    opened = open_checkpoint(checkpoint, ModelOptions(), None, opening.steps.append)
    assert not isinstance(opened, CachedSupernet)
    opened.exported()
    assert not opening.folder.exists()


def test_without_a_cache_nothing_is_taken(opening, checkpoint):
    kept = opening.open(checkpoint).exported()
    entry = opening.entry()
    (entry / "graph.onnx").write_bytes(b"hello")
    opened = open_checkpoint(checkpoint, ModelOptions(), None, opening.steps.append)
    assert same(kept, opened.exported())
    assert (opening.reads, opening.steps) == (2, [])
    assert opening.entry() == entry
    assert (entry / "graph.onnx").read_bytes() == b"hello"


def test_each_form_of_a_switching_network_is_kept(opening, tmp_path):
    torch.manual_seed(0)
    arguments = {"widths": [4, 8], "depths": [2, 2]}
    module = find_recipe("subpath-resnet").load()(**arguments).eval()
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    path = tmp_path / "ckpt.pt"
    save_checkpoint(
        path, CheckpointFile("skipc:subpath-resnet", arguments, module.state_dict())
    )
    options = ModelOptions(inputs=(TensorSpec("images", "float32", (1, 1, 8, 8)),))
    asked = [frozenset(), frozenset({"stage1"}), frozenset({"stage1", "stage2"})]
    first, second = (opening.open(path, options).exported() for _ in range(2))
    for names in asked:
        made, found = first.switching.without(names), second.switching.without(names)
        assert same(made, found)
        module.set_skipped(names)
        with torch.no_grad():
            case = draw_inputs(found.inputs, 1, seed=3)
            expected = module(torch.from_numpy(case["images"])).numpy()
        (answer,) = found.reference.run([case])[0].values()
        np.testing.assert_allclose(answer, expected, rtol=1e-5)
    assert first.switching.names == second.switching.names == ("stage1", "stage2")
    assert opening.reads == 1
    assert len(list(opening.folder.iterdir())) == len(asked)


def test_inputs_are_known_before_anything_is_exported(opening, checkpoint):
    assert opening.open(checkpoint).inputs[0].name == "images"
    assert not opening.folder.exists()
    opening.open(checkpoint).exported()
    assert opening.open(checkpoint).inputs[0].name == "images"
    assert opening.reads == 2


@pytest.mark.parametrize("name", WITH_UNITS)
def test_every_network_comes_back_as_it_was(tmp_path, name):
    network, _ = exported(name)
    save_export(tmp_path, Export(network, "original", ("a", "b")))

    def otherwise(cause):
        raise cause

    found = load_export(tmp_path, otherwise)
    for path in tmp_path.iterdir():
        path.unlink()
    assert same(network, found.network)
    assert (found.residual_scale, found.forms) == ("original", ("a", "b"))


def test_a_dynamic_batch_is_kept_beside(opening, checkpoint):
    for reads in (1, 1):
        opened = opening.open(checkpoint)
        assert opened.exported().batch is None
        assert opened.with_rows(8).exported().batch == BatchRange(1, 2, 8)
        assert opening.reads == reads
    assert opening.steps == [TAKEN, TAKEN]
    opening.open(checkpoint).with_rows(16).exported()
    assert opening.steps == []


def test_a_program_is_kept_too(opening, tmp_path):
    net = NETS["vit-any-batch"]
    made, _ = exported("vit-any-batch")
    torch.export.save(made.reference.program, tmp_path / "net.pt2")
    options = ModelOptions(batch=net.batch)
    assert isinstance(read_checkpoint(tmp_path / "net.pt2", options), ProgramSupernet)
    first = opening.open(tmp_path / "net.pt2", options).exported()
    again = opening.open(tmp_path / "net.pt2", options).exported()
    assert opening.reads == 1
    assert same(first, again)


def test_an_onnx_file_is_its_own_export(opening, tmp_path):
    ir.save(exported("functional")[0].model, tmp_path / "net.onnx")
    assert not isinstance(opening.open(tmp_path / "net.onnx"), CachedSupernet)


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(
            model="skipc:resnet", model_args=(("widths", "[4,4,8]"), ("blocks", "1"))
        ),
        ModelOptions(output="output"),
        ModelOptions(batch=BatchRange(1, 1, 1)),
    ],
)
def test_other_options_are_another_export(checkpoint, options):
    assert (
        export_key(checkpoint, options).text() != export_key(checkpoint, ModelOptions()).text()
    )


def test_other_weights_are_another_export(opening, checkpoint):
    opening.open(checkpoint).exported()
    data = bytearray(checkpoint.read_bytes())
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["head.bias"] += 1
    torch.save(state, checkpoint)
    assert checkpoint.read_bytes() != bytes(data)
    opening.open(checkpoint).exported()
    assert opening.reads == 2


def test_units_need_no_pytorch_the_second_time(opening, checkpoint):
    opening.open(checkpoint).exported()
    code = (
        "import sys; from pathlib import Path;"
        "from skipc.compiler.read import ModelOptions;"
        "from skipc.compiler.read.cached import open_checkpoint;"
        "from skipc.compiler.read.export_cache import ExportCache;"
        "from skipc.compiler.family import open_family;"
        "cache = ExportCache(Path(sys.argv[2]), print);"
        "open_family(open_checkpoint(Path(sys.argv[1]), ModelOptions(), cache, print));"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(checkpoint), str(opening.folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [TAKEN, "False"]


# --- what is in the cache is not trusted


def resealed(entry):
    """Makes the list of files say what is there, as one would who may write there."""
    from dataclasses import asdict

    from skipc.compiler.bundle.files import file_entries

    listed = json.loads((entry / "files.json").read_text())
    (entry / "files.json").unlink()
    listed["files"] = [asdict(file) for file in file_entries(entry)]
    (entry / "files.json").write_text(json.dumps(listed))


class Attack:
    def __init__(self, target) -> None:
        self.target = str(target)

    def __reduce__(self):
        import os

        return os.mkdir, (self.target,)


def with_pickle(entry, target):
    path = entry / "program.pt2"
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            evil = name.endswith("data/sample_inputs/model.pt")
            archive.writestr(name, pickle.dumps(Attack(target)) if evil else data)


def with_code(entry, target):
    path = entry / "program.pt2"
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            text = data.replace(b"torch.ops.aten.relu.default", b"os.system")
            archive.writestr(name, text if name.endswith("model.json") else data)


def no_archive(entry, target):
    (entry / "program.pt2").write_bytes(b"PK")


def with_other_tensors(entry, target):
    document = json.loads((entry / "network.json").read_text())
    del document["tensors"][0]
    (entry / "network.json").write_text(json.dumps(document))


def with_a_type_of_no_tensor(entry, target):
    document = json.loads((entry / "network.json").read_text())
    document["tensors"][0]["dtype"] = "load"
    (entry / "network.json").write_text(json.dumps(document))


def with_a_place_behind_the_end(entry, target):
    document = json.loads((entry / "network.json").read_text())
    document["tensors"][0]["offset_bytes"] = 10**9
    (entry / "network.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "attack",
    [
        *(with_pickle, with_code, no_archive, with_other_tensors),
        *(with_a_type_of_no_tensor, with_a_place_behind_the_end),
    ],
)
def test_a_program_that_is_none_is_exported_again(opening, checkpoint, tmp_path, attack):
    made = opening.open(checkpoint).exported()
    attack(opening.entry(), tmp_path / "evil")
    resealed(opening.entry())
    found = opening.open(checkpoint).exported()
    assert same(made, found)
    assert "thrown away and exported again" in opening.notes[0]
    assert opening.reads == 2
    assert not (tmp_path / "evil").exists()
    assert same(made, opening.open(checkpoint).exported())
    assert opening.reads == 2


def with_weights_elsewhere(entry):
    model = ir.load(entry / "graph.onnx")
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = ir.ExternalTensor(
                "../../ckpt.pt", 0, value.const_value.nbytes, value.const_value.dtype,
                shape=value.const_value.shape, name=value.name,
            )  # fmt: skip
    ir.save(model, entry / "graph.onnx")


def with_no_graph(entry):
    (entry / "graph.onnx").write_bytes(b"hello")


def with_short_weights(entry):
    (entry / "weights.bin").write_bytes(b"hello")


def without_network(entry):
    (entry / "network.json").unlink()


@pytest.mark.parametrize(
    "damage", [with_weights_elsewhere, with_no_graph, with_short_weights, without_network]
)
def test_a_graph_that_is_none_is_exported_again(opening, checkpoint, damage):
    made = opening.open(checkpoint).exported()
    damage(opening.entry())
    resealed(opening.entry())
    assert same(made, opening.open(checkpoint).exported())
    assert "thrown away and exported again" in opening.notes[0]
    assert opening.reads == 2

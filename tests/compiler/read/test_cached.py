"""Checkpoints exported once: what is taken from the cache is what an export would give."""

from __future__ import annotations

import functools
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest
import torch

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.network import Switching
from skipc.compiler.read import (
    ModelOptions,
    ProgramSupernet,
    TorchSupernet,
    read_checkpoint,
)
from skipc.compiler.read.cached import CachedSupernet, open_checkpoint
from skipc.compiler.read.export_cache import ExportCache
from skipc.compiler.read.export_files import load_export, save_export
from skipc.compiler.read.export_key import export_key
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.compiler.recipes.resnet import ResNet
from skipc.compiler.verify.golden import draw_inputs
from skipc.runtime.bundle.tensors import Dimension, TensorSpec, typical_sizes
from tests.zoo import exported

if TYPE_CHECKING:
    from skipc.compiler.network import Network

PLAIN = ModelOptions()
TAKEN = "the export is taken from the cache"


@dataclass(frozen=True)
class Known:
    """A supernet whose network was exported before."""

    network: Network
    residual_scale: str = "inverted"

    @property
    def inputs(self):
        return self.network.inputs

    @property
    def batch(self):
        return self.network.dimensions

    def exported(self):
        return self.network

    def with_rows(self, rows):
        raise AssertionError("nobody asks")


class Reading:
    """Opens checkpoints with a cache, and counts what is read."""

    def __init__(self, folder, read) -> None:
        self.notes: list[str] = []
        self.steps: list[str] = []
        self.reads = 0
        self.folder = folder
        self.read = read

    def open(self, path, options=PLAIN):
        def read():
            self.reads += 1
            return self.read(path, options)

        self.steps.clear()
        cache = ExportCache(self.folder, self.notes.append)
        key = export_key(path, options)
        return CachedSupernet(key, cache, functools.cache(read), self.steps.append)

    def entry(self):
        (entry,) = self.folder.iterdir()
        return entry


@pytest.fixture
def opening(tmp_path):
    return Reading(tmp_path / "exports", read_checkpoint)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A checkpoint, its network, and the folder with its export."""
    folder = tmp_path_factory.mktemp("kept")
    torch.manual_seed(0)
    arguments = {"widths": [4, 4, 8], "depths": [1, 1, 1]}
    network = ResNet(**arguments)
    path = folder / "ckpt.pt"
    save_checkpoint(path, CheckpointFile("skipc:resnet", arguments, network.state_dict()))
    cache = ExportCache(folder / "exports", print)
    opened = open_checkpoint(path, PLAIN, cache, print)
    made = opened.exported()
    assert opened.exported() is made
    return path, made, folder / "exports"


@pytest.fixture
def checkpoint(kept):
    return kept[0]


@pytest.fixture
def again(kept, tmp_path):
    """Opens that checkpoint, whose export is there; exporting it again costs nothing."""
    shutil.copytree(kept[2], tmp_path / "exports")
    return Reading(tmp_path / "exports", lambda path, options: Known(kept[1]))


def same(made, found):
    """Whether two networks are one, seen from outside."""
    case = draw_inputs(made.inputs, typical_sizes(made.dimensions), seed=3)
    return (
        (made.inputs, made.outputs, made.dimensions, made.description, made.tolerance)
        == (found.inputs, found.outputs, found.dimensions, found.description, found.tolerance)
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


def test_the_second_export_is_taken_from_the_cache(kept, again, checkpoint):
    opened = again.open(checkpoint)
    assert (opened.inputs, opened.dimensions, opened.residual_scale) == (
        *(kept[1].inputs, ()),
        "inverted",
    )
    found = opened.exported()
    assert (again.steps, again.notes, again.reads) == ([TAKEN], [], 0)
    assert same(kept[1], found)


def test_without_a_cache_nothing_is_kept_and_nothing_taken(checkpoint):
    opened = open_checkpoint(checkpoint, PLAIN, None, print)
    assert isinstance(opened, TorchSupernet)


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
    asked = [frozenset(), frozenset({"stage1"})]
    first, second = (opening.open(path, options).exported() for _ in range(2))
    for names in asked:
        made, found = first.switching.without(names), second.switching.without(names)
        assert same(made, found)
        module.set_skipped(names)
        with torch.no_grad():
            case = draw_inputs(found.inputs, {"N": 1}, seed=3)
            expected = module(torch.from_numpy(case["images"])).numpy()
        (answer,) = found.reference.run([case])[0].values()
        np.testing.assert_allclose(answer, expected, rtol=1e-5)
    assert first.switching.names == second.switching.names == ("stage1", "stage2")
    assert opening.reads == 1
    assert len(list(opening.folder.iterdir())) == len(asked)


def test_inputs_are_known_before_anything_is_exported(opening, checkpoint):
    assert opening.open(checkpoint).inputs[0].name == "images"
    assert not opening.folder.exists()


@pytest.mark.parametrize("name", ["functional", "tied", "bert-any-batch"])
def test_every_network_comes_back_as_it_was(tmp_path, name):
    network, _ = exported(name)
    forms = Switching(("a", "b"), lambda _: network)
    save_export(tmp_path, replace(network, residual_scale="original", switching=forms))

    def otherwise(cause):
        raise cause

    found = load_export(tmp_path, forms.without, otherwise)
    for path in tmp_path.iterdir():
        path.unlink()
    assert same(network, found)
    assert (found.residual_scale, found.switching) == ("original", forms)


def test_a_dynamic_batch_is_kept_beside(again, checkpoint):
    again.read = read_checkpoint
    for reads in (1, 1):
        opened = again.open(checkpoint)
        assert opened.exported().dimensions == ()
        assert opened.with_rows(8).exported().dimensions == (Dimension("N", 1, 2, 8),)
        assert again.reads == reads
    assert again.steps == [TAKEN, TAKEN]
    assert opened.with_rows(16).key != opened.with_rows(8).key


def test_a_program_is_kept_too(kept, tmp_path):
    torch.export.save(kept[1].reference.program, tmp_path / "net.pt2")
    cache = ExportCache(tmp_path / "exports", print)
    assert isinstance(read_checkpoint(tmp_path / "net.pt2", PLAIN), ProgramSupernet)
    assert isinstance(
        open_checkpoint(tmp_path / "net.pt2", PLAIN, cache, print), CachedSupernet
    )


def test_an_onnx_file_is_its_own_export(tmp_path):
    ir.save(exported("functional")[0].model, tmp_path / "net.onnx")
    cache = ExportCache(tmp_path / "exports", print)
    opened = open_checkpoint(tmp_path / "net.onnx", PLAIN, cache, print)
    assert not isinstance(opened, CachedSupernet)


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(
            model="skipc:resnet", model_args=(("widths", "[4,4,8]"), ("blocks", "1"))
        ),
        ModelOptions(output="output"),
        ModelOptions(dimensions=(Dimension("N", 1, 1, 1),)),
    ],
)
def test_other_options_are_another_export(checkpoint, options):
    assert export_key(checkpoint, options) != export_key(checkpoint, PLAIN)


def test_other_weights_are_another_export(checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["head.bias"] += 1
    torch.save(state, tmp_path / "other.pt")
    assert export_key(tmp_path / "other.pt", PLAIN) != export_key(checkpoint, PLAIN)


def test_units_need_no_pytorch_the_second_time(again, checkpoint):
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
    command = [sys.executable, "-c", code, str(checkpoint), str(again.folder)]
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
def test_a_program_that_is_none_is_exported_again(kept, again, tmp_path, attack):
    checkpoint, made, _ = kept
    attack(again.entry(), tmp_path / "evil")
    resealed(again.entry())
    found = again.open(checkpoint).exported()
    assert same(made, found)
    assert "thrown away and exported again" in again.notes[0]
    assert again.reads == 1
    assert not (tmp_path / "evil").exists()
    assert again.open(checkpoint).exported().outputs == made.outputs
    assert again.reads == 1


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
def test_a_graph_that_is_none_is_exported_again(kept, again, damage):
    damage(again.entry())
    resealed(again.entry())
    assert again.open(kept[0]).exported() is kept[1]
    assert "thrown away and exported again" in again.notes[0]
    assert again.reads == 1

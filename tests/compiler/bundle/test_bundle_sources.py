"""Bundles from ONNX and ``.pt2`` supernets hold the same subnets as from PyTorch."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings

import onnx
import pytest
import torch

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read import ModelOptions, OnnxSupernet, read_checkpoint
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import Dimension
from tests.build_folder import NAME, SKIPS, BuildFolder
from tests.zoo import (
    NETS,
    assert_close,
    case_for,
    eager_outputs,
    exported,
    module_of,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return BuildFolder(tmp_path_factory.mktemp("built")).build()


def onnx_file(kind, folder):
    """Writes the network with torch's exporters and returns the file."""
    path = folder / f"{kind}.onnx"
    module, x = module_of(NETS[NAME]), torch.zeros(1, 3, 16, 16)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            path,
            input_names=["x"],
            output_names=["output"],
            dynamo=kind == "dynamo",
            verbose=False,
        )
    return path


def nameless_file(dynamo):
    """Writes the file that PyTorch's exporter wrote once more, its nodes without names."""
    model = onnx.load(dynamo)
    for node in model.graph.node:
        node.name = ""
        del node.metadata_props[:]
    onnx.save(model, dynamo.with_name("nameless.onnx"))
    return dynamo.with_name("nameless.onnx")


@pytest.fixture(scope="module")
def torch_onnx(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    files = {kind: onnx_file(kind, folder) for kind in ("dynamo", "torchscript")}
    return {**files, "nameless": nameless_file(files["dynamo"])}


@pytest.mark.parametrize("kind", ["dynamo", "torchscript", "nameless"])
def test_onnx_supernet_leads_to_the_same_subnets(kind, torch_onnx, tmp_path):
    network = read_checkpoint(torch_onnx[kind], ModelOptions())
    assert isinstance(network, OnnxSupernet)
    skips = SKIPS
    if kind == "nameless":
        # Without module paths a unit is called by its join: bits are the way to name it.
        skips = {"full": "0000", "mid": "0100", "fast": "1111"}
    bundle = Bundle.open(BuildFolder(tmp_path, skips).build(network))
    case = case_for(NETS[NAME], seed=9)
    import onnxruntime

    for name, skip in SKIPS.items():
        session = onnxruntime.InferenceSession(str(bundle.path / f"{name}.onnx"))
        found = session.run(None, case)[0]
        assert_close(found, eager_outputs(NETS[NAME], skip, case)[0])
        graph = bundle.manifest.graph(name)
        assert graph.verification.reference == "onnx supernet"
        if kind != "nameless":
            assert bundle.manifest.configuration(name).taken("skip") == skip
        assert graph.macs == _macs(skip)


def _macs(skip):
    _, search = exported(NAME)
    return search.total_macs - sum(unit.macs for unit in search.units if unit.name in skip)


def test_program_file_leads_to_the_same_subnets(tmp_path, built):
    module = module_of(NETS[NAME])
    program = torch.export.export(module, (), {"x": torch.zeros(1, 3, 16, 16)})
    torch.export.save(program, tmp_path / "net.pt2")
    network = read_checkpoint(tmp_path / "net.pt2", ModelOptions())
    place = tmp_path / "place"
    place.mkdir()
    manifest = Bundle.open(BuildFolder(place).build(network)).manifest
    expected = Bundle.open(built).manifest
    assert {t.sha256 for t in manifest.weights} == {t.sha256 for t in expected.weights}
    assert [entry.parts for entry in manifest.configurations] == [
        entry.parts for entry in expected.configurations
    ]
    assert [g.macs for g in manifest.graphs] == [g.macs for g in expected.graphs]


def test_open_sizes_of_an_onnx_supernet_are_settled(tmp_path):
    module, x = module_of(NETS[NAME]), torch.zeros(2, 3, 16, 16)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            tmp_path / "net.onnx",
            input_names=["x"],
            output_names=["output"],
            dynamo=False,
            verbose=False,
            dynamic_axes={"x": {0: "images"}, "output": {0: "images"}},
        )
    network = read_checkpoint(
        tmp_path / "net.onnx", ModelOptions(dimensions=(Dimension("N", 1, 2, 4),))
    )
    place = tmp_path / "place"
    place.mkdir()
    manifest = Bundle.open(BuildFolder(place).build(network)).manifest
    assert [spec.shape for spec in (*manifest.inputs, *manifest.outputs)] == [
        ("N", 3, 16, 16),
        ("N", 5),
    ]


def test_onnx_supernet_is_built_without_torch(torch_onnx, tmp_path):
    place = BuildFolder(tmp_path)
    script = f"""
        import sys
        from pathlib import Path

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("torch", "transformers"):
                    raise ImportError(f"blocked: {{name}}")

        sys.meta_path.insert(0, Blocker())
        from skipc.compiler.build import BuildOptions, build_bundle
        from skipc.compiler.read import ModelOptions, read_checkpoint

        file = Path({str(torch_onnx["dynamo"])!r})
        network = read_checkpoint(file, ModelOptions())
        print(build_bundle(network, file, Path({str(place.front)!r}),
              BuildOptions(out=Path({str(tmp_path / "out.skipc")!r}))))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    Bundle.open(tmp_path / "out.skipc").verify_hashes()


@pytest.mark.parametrize("left", ["half of it", ""])
def test_onnx_supernet_without_its_weights_is_refused(left, torch_onnx, tmp_path):
    model = onnx.load(torch_onnx["dynamo"])
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="lost.bin")
    network = read_checkpoint(tmp_path / "net.onnx", ModelOptions())
    data = (tmp_path / "lost.bin").read_bytes()
    if left:
        (tmp_path / "lost.bin").write_bytes(data[: len(data) // 2])
    else:
        (tmp_path / "lost.bin").unlink()
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(CheckpointError, match=r"lost\.bin"):
        BuildFolder(place).build(network)
    assert "ckpt.skipc" not in [file.name for file in place.iterdir()]

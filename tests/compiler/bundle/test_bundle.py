"""Whole builds: what a bundle holds, and what a build that fails leaves behind."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from skipc.compiler.build import BuildOptions
from skipc.compiler.errors import CheckpointError, CompileError, FrontError, NumericsError
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import Dimension
from tests.build_folder import NAME, SKIPS, BuildFolder
from tests.zoo import (
    NETS,
    assert_close,
    eager_outputs,
    exported,
    supernet,
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The network as an ONNX supernet, which needs no export on every build."""
    path = tmp_path_factory.mktemp("graph") / "net.onnx"
    ir.save(exported(NAME)[0].model.clone(), path)
    return read_checkpoint(path, ModelOptions())


@pytest.fixture
def build_folder(tmp_path, graph):
    return BuildFolder(tmp_path, network=graph)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    place = BuildFolder(tmp_path_factory.mktemp("built"))
    return place, place.build()


def test_bundle_opens_and_its_hashes_hold(built):
    _, path = built
    bundle = Bundle.open(path)
    bundle.verify_hashes()
    assert path.name == "ckpt.skipc"
    assert sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()) == [
        "fast.onnx",
        "full.onnx",
        "golden/fast.outputs.npz",
        "golden/full.outputs.npz",
        "golden/inputs.npz",
        "golden/mid.outputs.npz",
        "manifest.json",
        "mid.onnx",
        "weights.bin",
    ]


def test_manifest_says_what_was_built(built):
    _, path = built
    manifest = Bundle.open(path).manifest
    _, search = exported(NAME)
    assert [option.name for option in manifest.options("skip")] == [
        unit.name for unit in search.units
    ]
    assert {c.name: c.taken("skip") for c in manifest.configurations} == SKIPS
    assert [c.text() for c in manifest.configurations] == [
        f"{len(units)} skipped" for units in SKIPS.values()
    ]
    full, mid, fast = manifest.graphs
    assert full.macs == search.total_macs
    assert full.parameters == search.total_parameters
    assert full.macs - mid.macs == search.units[1].macs
    assert full.parameters - mid.parameters == search.units[1].parameters
    assert manifest.configuration("full").metrics == {"accuracy": 0.9}
    assert full.weights_bytes > mid.weights_bytes > fast.weights_bytes
    # Each tensor of a smaller configuration is the full one's, too.
    assert (mid.own_bytes, fast.own_bytes) == (0, 0)
    assert sum(tensor.size_bytes for tensor in manifest.weights) == full.weights_bytes
    for graph in manifest.graphs:
        assert graph.verification.relative_error <= graph.verification.tolerance
    assert manifest.networks[0].model == NAME
    assert manifest.provenance.versions.keys() >= {"torch", "onnx-ir", "onnxruntime"}


def test_golden_outputs_are_eager_pytorchs(built):
    _, path = built
    bundle = Bundle.open(path)
    for name, skip in SKIPS.items():
        for case, expected in zip(
            bundle.golden_inputs(), bundle.golden_outputs(name), strict=True
        ):
            assert_close(expected["output"], eager_outputs(NETS[NAME], skip, case)[0])


def test_graphs_read_the_one_weight_store(built):
    _, path = built
    for name in SKIPS:
        model = onnx.load(path / f"{name}.onnx", load_external_data=False)
        locations = {
            entry.value
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        assert locations == {"weights.bin"}
        onnx.checker.check_model(str(path / f"{name}.onnx"), full_check=True)


def test_bundle_names_no_path_of_this_machine(built):
    place, path = built
    for file in path.rglob("*"):
        if file.is_file():
            assert str(place.folder).encode() not in file.read_bytes()


def test_building_again_gives_the_same_files(built, tmp_path):
    again = BuildFolder(tmp_path).build()
    for file in built[1].rglob("*"):
        if file.is_file() and file.name != "manifest.json":
            assert file.read_bytes() == (again / file.relative_to(built[1])).read_bytes()


def test_existing_bundle_is_kept_unless_told(built):
    place, path = built
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(CompileError, match=r"a bundle is already there. Pass --overwrite"):
        place.build()
    assert (path / "manifest.json").read_bytes() == before


def test_existing_bundle_is_replaced_when_told(build_folder):
    out = build_folder.folder / "out.skipc"
    out.mkdir()
    (out / "manifest.json").write_text("{}")
    (out / "old.onnx").write_text("old")
    build_folder.build(options=BuildOptions(out=out, overwrite=True))
    Bundle.open(out)
    assert not (out / "old.onnx").exists()
    assert build_folder.left() == ["ckpt.pt", "front.json", "out.skipc"]


def test_folder_that_is_no_bundle_is_never_replaced(build_folder):
    out = build_folder.folder / "precious"
    out.mkdir()
    (out / "thesis.tex").write_text("chapter 1")
    with pytest.raises(CompileError, match="exists and is no bundle"):
        build_folder.build(options=BuildOptions(out=out, overwrite=True))
    assert (out / "thesis.tex").exists()


def test_symlink_is_never_replaced(built, build_folder):
    out = build_folder.folder / "link.skipc"
    out.symlink_to(built[1])
    with pytest.raises(CompileError, match="exists and is no bundle"):
        build_folder.build(options=BuildOptions(out=out, overwrite=True))


STEPS = 5  # export, one per configuration, hash


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("there", ["nothing", "a bundle"])
def test_interrupted_build_leaves_what_was_there(step, there, build_folder):
    out = build_folder.folder / "ckpt.skipc"
    if there == "a bundle":
        out.mkdir()
        (out / "manifest.json").write_text("old")
    before = build_folder.left()
    seen = []

    def interrupt(text):
        seen.append(text)
        if len(seen) > step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_folder.build(options=BuildOptions(overwrite=True), progress=interrupt)
    assert build_folder.left() == before
    if there == "a bundle":
        assert [file.name for file in out.iterdir()] == ["manifest.json"]
        assert (out / "manifest.json").read_text() == "old"


def test_progress_names_every_step(build_folder):
    seen = []
    build_folder.build(progress=seen.append)
    assert len(seen) == STEPS
    assert "mid (2 of 3)" in seen[2]


def test_configurations_that_are_the_same_network_are_told(tmp_path):
    skips = {"outer": ("1",), "both": ("1", "1.body.0"), "other": ("2",)}
    place = BuildFolder(tmp_path, skips, supernet("residual-in-residual"))
    notes = []
    place.build(note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("'outer' and 'both' are the same network")


def test_subnet_over_tolerance_leaves_nothing(build_folder):
    with pytest.raises(NumericsError, match="more than the tolerance of 0"):
        build_folder.build(options=BuildOptions(tolerance=0.0))
    assert build_folder.left() == ["ckpt.pt", "front.json"]


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_tolerance_that_is_no_share_is_refused(tolerance, build_folder):
    with pytest.raises(CompileError, match=r"--tolerance .* must be a number of at least 0"):
        build_folder.build(options=BuildOptions(tolerance=tolerance))


def test_front_of_another_network_leaves_nothing(tmp_path):
    place = BuildFolder(tmp_path, {"a": ("vit.layers.0",)})
    with pytest.raises(FrontError, match="front of another network"):
        place.build()
    assert place.left() == ["ckpt.pt", "front.json"]


def test_real_inputs_are_verified_on_too(build_folder):
    rows = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
    np.save(build_folder.folder / "rows.npy", rows)
    path = build_folder.build(options=BuildOptions(data=build_folder.folder / "rows.npy"))
    assert Bundle.open(path).manifest.graphs[0].verification.inputs == 5


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        ({"x": np.zeros((2, 3, 8, 8), np.float32)}, "any number of rows of"),
        ({"x": np.zeros((2, 3, 16, 16))}, "type float64"),
        ({"x": np.zeros((0, 3, 16, 16), np.float32)}, "fewer rows than one call takes"),
        ({"y": np.zeros((2, 3, 16, 16), np.float32)}, "no array named 'x'"),
        ({"x": np.asarray([object()])}, "holds Python objects"),
    ],
)
def test_real_inputs_that_do_not_fit_are_refused(arrays, fragment, build_folder):
    np.savez(build_folder.folder / "rows.npz", **arrays)
    with pytest.raises(CheckpointError, match=fragment):
        build_folder.build(options=BuildOptions(data=build_folder.folder / "rows.npz"))
    assert "ckpt.skipc" not in build_folder.left()


def test_dynamic_batch_and_whole_number_inputs_are_built(tmp_path):
    layer = "bert.encoder.layer"
    place = BuildFolder(tmp_path, {"full": (), "fast": (f"{layer}.1", f"{layer}.0.attention")})
    bundle = Bundle.open(place.build(supernet("bert-any-batch")))
    assert bundle.manifest.dimensions == (Dimension("N", 1, 2, 5),)
    assert bundle.manifest.inputs[0].shape == ("N", 8)
    assert len(bundle.manifest.configurations[1].taken("skip")) == 3
    assert bundle.manifest.graphs[0].verification.inputs == 3
    ids = bundle.golden_inputs()[0]["input_ids"]
    assert ids.shape == (2, 8)
    assert 2 < ids.max() < 50


def test_configuration_may_be_called_like_a_temporary_file(tmp_path):
    names = ("weights.bin", "reference.tmp", "probe.tmp", "manifest.json", "inputs")
    units = ("layer1.0", "layer1.1", "layer2.0", "layer2.1")
    skips = {name: units[:i] for i, name in enumerate(names)}
    bundle = Bundle.open(BuildFolder(tmp_path, skips).build())
    assert [entry.name for entry in bundle.manifest.configurations] == [*names]

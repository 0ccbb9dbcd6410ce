"""Bundles of networks with re-estimated norms: verified, and each kernel stored once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skipc.compiler.axes.precision import Precision
from skipc.compiler.axes.units import find_units
from skipc.compiler.build import BuildOptions, build_bundle
from skipc.compiler.errors import FrontError
from skipc.compiler.front import (
    Front,
    FrontEntry,
    write_front,
)
from skipc.compiler.front_files import StatisticsFile
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.norms.of_front import write_statistics
from skipc.compiler.norms.statistics import FamilyNorms, NormMode, NormStatistics
from skipc.compiler.targets import finish
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.folder import file_sha256
from tests.compiler.norms.norm_nets import INPUTS, NORM_NETS, norm_supernet, random_norms

PAIRS = tuple(replace(spec, shape=(2, *spec.shape[1:])) for spec in INPUTS)
"""The same inputs with a batch that is fixed to two."""


def make_front(folder, name, mode):
    """Writes a front whose three configurations have statistics of their own each."""
    supernet = norm_supernet(NORM_NETS[name])
    graph = supernet.exported()
    units = find_units(graph.model).units
    rng = np.random.default_rng(7)
    base = random_norms(graph, 0, scaled=False).base
    entries = {"full": (), "mid": units[-1:], "fast": units}
    statistics = {}
    for entry in entries:
        own = {}
        for norm in find_norms(graph.model):
            mean = rng.normal(size=norm.channels).astype(np.float32)
            scaled = mode is NormMode.SCALAR and norm.folds
            scale = float(rng.uniform(0.5, 2)) if scaled else None
            own[norm.name] = NormStatistics(mean, base[norm.name].variance, scale)
        statistics[entry] = own
    write_statistics(folder / "front.norms.npz", FamilyNorms(mode, base, statistics))
    (folder / "ckpt.pt").write_bytes(b"weights")
    write_front(
        folder / "front.json",
        Front(
            tuple(
                FrontEntry(n, {"skip": [u.name for u in skip]}) for n, skip in entries.items()
            ),
            norm=mode,
            statistics=StatisticsFile(
                "front.norms.npz", file_sha256(folder / "front.norms.npz")
            ),
        ),
    )
    return supernet


def build(folder, supernet, precision=None):
    return build_bundle(
        supernet,
        folder / "ckpt.pt",
        folder / "front.json",
        BuildOptions(out=folder / "b.skipc", precision=precision),
    )


@pytest.mark.parametrize("mode", [NormMode.SCALAR, NormMode.FULL])
def test_norms_of_a_family_in_half_precision_share_its_kernels(tmp_path, mode):
    supernet = make_front(tmp_path, "bottleneck", mode)
    bundle = Bundle.open(build(tmp_path, supernet, Precision.FP16))
    full = bundle.manifest.graphs[0]
    kernels = [t.size_bytes for t in bundle.manifest.weights if t.size_bytes >= 1024]
    assert sum(kernels) <= full.weights_bytes
    assert bundle.manifest.provenance.precision == "fp16"


@pytest.mark.parametrize("mode", [NormMode.SCALAR, NormMode.FULL])
@pytest.mark.parametrize("name", ["bottleneck", "pre-activation"])
def test_bundle_is_verified_and_holds_each_kernel_once(tmp_path, name, mode):
    bundle = Bundle.open(build(tmp_path, make_front(tmp_path, name, mode)))
    full = bundle.manifest.graphs[0]
    total_bytes = sum(tensor.size_bytes for tensor in bundle.manifest.weights)
    assert bundle.manifest.networks[0].norm == mode.value
    assert all(g.verification.relative_error < 1e-5 for g in bundle.manifest.graphs)
    kernels = [t.size_bytes for t in bundle.manifest.weights if t.size_bytes >= 1024]
    assert sum(kernels) <= full.weights_bytes
    assert total_bytes <= full.weights_bytes + 3 * 2048  # per-channel numbers of three


def test_engines_of_scaled_norms_share_their_kernels(tmp_path):
    path = build(tmp_path, make_front(tmp_path, "bottleneck", NormMode.SCALAR))
    engines = finish(path, "cpu").engines
    # The full network has kernels that the others skip; they have only biases of their own.
    assert all(engine.own_bytes < 2048 < engine.weights_bytes for engine in engines[1:])


def test_statistics_of_another_network_stop_the_build(tmp_path):
    make_front(tmp_path, "bottleneck", NormMode.FULL)
    with pytest.raises(FrontError):
        build(tmp_path, norm_supernet(NORM_NETS["leaky"]))
    assert not (tmp_path / "b.skipc").exists()


def test_what_makes_the_estimation_slow_is_a_note(tmp_path):
    fixed = replace(make_front(tmp_path, "bottleneck", NormMode.FULL), inputs=PAIRS)
    shape = (40, *PAIRS[0].shape[1:])
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=data, y=np.arange(40) % 2)
    options = BuildOptions(out=tmp_path / "b.skipc", reestimate=str(tmp_path / "data.npz"))
    steps, notes = [], []
    build_bundle(
        fixed,
        tmp_path / "ckpt.pt",
        tmp_path / "front.json",
        options,
        steps.append,
        notes.append,
    )
    assert len(notes) == 1
    assert "the first dimension of the input" in notes[0]
    assert "re-estimating norms" in steps
    assert notes[0] not in steps

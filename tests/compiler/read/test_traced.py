"""Networks that switch their norms: one trace per configuration, kernels stored once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from skipc.compiler.build import BuildOptions, build_bundle
from skipc.compiler.errors import FrontError, SupernetError, UnitError
from skipc.compiler.family import open_family
from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.residual_scale import ResidualScale, Scaling
from skipc.compiler.targets import finish
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from tests.compiler.norms.norm_nets import INPUTS
from tests.exports import ExportedOnce
from tests.zoo import assert_close
from tests.zoo.net import randomise

X = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)


class Stage(nn.Module):
    """One mandatory block with two norms, one that may be skipped."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.extra = nn.Sequential(
            nn.Conv2d(outer, outer, 3, padding=1), nn.BatchNorm2d(outer)
        )
        self.skipped = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norms[int(self.skipped)](self.conv(x)))
        return x if self.skipped else torch.relu(x + self.extra(x))


class Switching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2 = Stage(3, 32), Stage(32, 32)
        self.head = nn.Linear(32, 5)

    def skippable(self):
        return ("stage1", "stage2")

    def set_skipped(self, names):
        self.stage1.skipped = "stage1" in names
        self.stage2.skipped = "stage2" in names

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stage2(self.stage1(x)).mean((2, 3)))


@dataclass(frozen=True)
class Made:
    module: Switching
    network: ExportedOnce


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    module = Switching().eval()
    randomise(module)
    return Made(module, ExportedOnce(module, INPUTS, (), None, "switching", {}))


SKIPS = {"FF": (), "TF": ("stage1",), "FT": ("stage2",), "TT": ("stage1", "stage2")}


@pytest.fixture(scope="module")
def bundle(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    (folder / "ckpt.pt").write_bytes(b"weights")
    write_front(
        folder / "front.json",
        Front(tuple(FrontEntry(n, {"skip": list(s)}) for n, s in SKIPS.items())),
    )
    return build_bundle(
        made.network, folder / "ckpt.pt", folder / "front.json", BuildOptions()
    )


def test_every_configuration_computes_what_the_network_does(made, bundle):
    finish(bundle, "cpu")
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        for name, skipped in SKIPS.items():
            engine.pin(name)
            made.module.set_skipped(skipped)
            with torch.no_grad():
                expected = made.module(torch.from_numpy(X)).numpy()
            assert_close(engine(X), expected)
    made.module.set_skipped(())


def test_kernels_of_all_configurations_are_stored_once(made, bundle):
    manifest = Bundle.open(bundle).manifest
    stored_bytes = sum(tensor.size_bytes for tensor in manifest.weights)
    tensors = made.module.state_dict().values()
    everything_bytes = sum(t.numel() * t.element_size() for t in tensors)
    assert stored_bytes <= everything_bytes
    assert manifest.networks[0].norm == "switched"


def test_units_are_what_the_network_names(made, bundle):
    units = open_family(made.network).offers["skip"].units
    kernel = 32 * 32 * 9
    assert [(u.name, u.macs) for u in units] == [
        ("stage1", kernel * 256),
        ("stage2", kernel * 256),
    ]
    manifest = Bundle.open(bundle).manifest
    macs = {graph.name: graph.macs for graph in manifest.graphs}
    assert macs["FF"] - macs["TT"] == 2 * kernel * 256


def test_network_is_left_with_nothing_skipped(made):
    made.network.exported().switching.without(frozenset({"stage1"}))
    assert not made.module.stage1.skipped


def test_unknown_unit_names_the_nearest(made, tmp_path):
    (tmp_path / "ckpt.pt").write_bytes(b"weights")
    write_front(
        tmp_path / "front.json",
        Front(
            (
                FrontEntry("a", {"skip": ["stage1"]}),
                FrontEntry("b", {"skip": ["stage2", "stage3"]}),
            )
        ),
    )
    with pytest.raises(FrontError, match=r"'stage3' is no unit.*'stage2'"):
        build_bundle(
            made.network, tmp_path / "ckpt.pt", tmp_path / "front.json", BuildOptions()
        )


@pytest.mark.parametrize(
    ("names", "fragment"), [((), "names nothing"), (("stage1", "stage1"), "a name twice")]
)
def test_network_that_names_nothing_or_one_thing_twice_is_refused(made, names, fragment):
    class Wrong(Switching):
        def skippable(self):
            return names

    network = replace(made.network, source=Wrong().eval())
    with pytest.raises(SupernetError, match=fragment):
        open_family(network)


def test_reestimated_norms_are_refused(made):
    with pytest.raises(SupernetError, match="switches its norms"):
        open_family(made.network).with_norms(FamilyNorms(NormMode.SCALAR))


def test_residual_scale_is_refused(made):
    with pytest.raises(UnitError, match="scales its branches itself"):
        open_family(made.network, Scaling(ResidualScale.ORIGINAL))

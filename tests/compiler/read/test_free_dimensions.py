"""Any dimension of an input may be free: exported, and computed as PyTorch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from skipc.compiler.errors import SupernetError
from skipc.compiler.read.checkpoint import TorchSupernet
from skipc.compiler.verify.golden import random_cases
from skipc.compiler.verify.onnx_reference import run_graph
from skipc.runtime.bundle.tensors import Dimension, TensorSpec, sizes_of

IMAGES = TensorSpec("x", "float32", ("N", 2, "H", "W"))
BATCH, HEIGHT, WIDTH = (
    Dimension("N", 1, 1, 2),
    Dimension("H", 8, 12, 20),
    Dimension("W", 8, 12, 9 + 7),
)


class Strided(nn.Module):
    """Convolutions whose outputs are half as large, and a mean over all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        x = x + torch.relu(self.inner(x))
        return {"map": x, "mean": x.mean((2, 3))}


class Rejoined(nn.Module):
    """Needs even sizes: half of them doubled is joined with the whole."""

    def forward(self, x):
        return x + functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2.0)


class Placed(nn.Module):
    """Has a place for 16 positions."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.places, self.whole = nn.Parameter(torch.randn(1, 16)), whole

    def forward(self, x):
        return x + (self.places if self.whole else self.places[:, : x.shape[1]])


def supernet(module, spec, *dimensions):
    torch.manual_seed(0)
    return TorchSupernet(module.eval(), (spec,), dimensions, None, "network", {})


@pytest.fixture(scope="module")
def strided():
    made = supernet(Strided(), IMAGES, BATCH, HEIGHT, WIDTH)
    return made, made.exported()


def test_outputs_have_the_sizes_that_follow(strided):
    shapes = {spec.name: spec.shape for spec in strided[1].outputs}
    assert shapes["mean"] == ("N", 4)
    assert shapes["map"] == ("N", 4, "(H-1)//2+1", "(W-1)//2+1")


def test_every_size_is_computed_as_in_pytorch(strided):
    made, network = strided
    cases = random_cases(network.inputs, network.dimensions, {})
    assert [tuple(case["x"].shape) for case in cases[:3]] == [
        *((1, 2, 12, 12), (1, 2, 8, 8), (2, 2, 20, 16)),
    ]
    assert len({case["x"].shape for case in cases}) == 5
    for case, found in zip(cases, run_graph(network.model, cases), strict=True):
        with torch.no_grad():
            wanted = made.source(torch.from_numpy(case["x"]))
        for spec in network.outputs:
            expected = wanted[spec.name].numpy()
            assert spec.shape_at(sizes_of(case, network.inputs)) == expected.shape
            np.testing.assert_allclose(found[spec.name], expected, atol=1e-5)


def test_sizes_in_steps_are_taken_where_a_network_wants_them():
    network = supernet(
        Rejoined(), IMAGES, BATCH, Dimension("H", 8, 12, 20, 2), Dimension("W", 8, 8, 12, 4)
    ).exported()
    assert network.outputs[0].shape[2:] == ("2*(H//2)", "4*(W//4)")
    for case in random_cases(network.inputs, network.dimensions, {}):
        assert case["x"].shape[2] % 2 == 0 == case["x"].shape[3] % 4
        assert run_graph(network.model, [case])[0]["output"].shape == case["x"].shape


@pytest.mark.parametrize(
    ("module", "shape", "dimension", "says"),
    [
        (
            Rejoined(),
            (1, 2, "H", 8),
            Dimension("H", 7, 12, 21),
            r"it takes multiples of 2 in H alone, here 8 to 20 .* Write --dim H=8:12:20:2\.",
        ),
        (
            Placed(whole=False),
            (1, "T"),
            Dimension("T", 2, 8, 32),
            r"it takes T from 2 to 16 \(--dim T=2:8:32\)\. Give a range inside that\.",
        ),
        (
            Placed(whole=True),
            (1, "T"),
            Dimension("T", 2, 16, 32),
            r"it fixes T to 16 \(--dim T=2:16:32\)\. Write 16 in place of T\.",
        ),
    ],
    ids=["multiples", "range", "fixed"],
)
def test_a_range_that_the_network_cannot_is_told_with_what_it_can(
    module, shape, dimension, says
):
    made = supernet(module, TensorSpec("x", "float32", shape), dimension)
    with pytest.raises(SupernetError, match=rf"^network does not take all the s.*: {says}$"):
        made.exported()

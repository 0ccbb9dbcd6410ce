"""Parts of a branch's channels as branches of their own: what PyTorch computes, masked."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipc.compiler.axes.gate_channels import BranchChannels
from skipc.compiler.axes.gates import Gated, GatesAxis
from skipc.compiler.cut import Narrowed
from skipc.compiler.graph.passes.cut_operands import without
from skipc.compiler.graph.passes.gate_units import ungated
from skipc.compiler.norms.apply import Norms
from skipc.compiler.targets.cpu.gated_parts import split_parts
from skipc.compiler.verify.onnx_reference import run_graph
from tests.compiler.norms.norm_nets import random_norms
from tests.gates import random_gates
from tests.zoo import NETS, assert_close, case_for, exported

if TYPE_CHECKING:
    from skipc.compiler.gates import Gates
    from skipc.compiler.network import Network

NET = "torchvision-resnet"
INNER = (8, 8, 12, 12)
BLOCK = 4
AXIS = GatesAxis()


@cache
def _gates() -> Gates:
    network, _ = exported(NET)
    return random_gates(network)


def _gated(network: Network, gates: Gates) -> Network:
    gifted = replace(network, gates=gates)
    offer = AXIS.offer(gifted)
    return AXIS.apply(gifted, Gated(offer.names), offer)


@st.composite
def _parts(draw: st.DrawFn) -> list[list[int]]:
    """By unit, for each channel the number of its part, in parts of whole blocks."""
    found = []
    for channels in INNER:
        blocks = channels // BLOCK
        count = draw(st.integers(1, blocks))
        others = blocks - count
        more = draw(st.lists(st.integers(0, count - 1), min_size=others, max_size=others))
        numbers = [*range(count), *more]
        found.append(draw(st.permutations([n for n in numbers for _ in range(BLOCK)])))
    return found


@settings(max_examples=5, deadline=None)
@given(_parts(), st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_graph_in_parts_is_what_pytorch_computes(
    parts: list[list[int]], running: list[int]
) -> None:
    """Of each unit some of the first parts run, or none."""
    network, found = exported(NET)
    gates = _gates()
    own = tuple(
        replace(
            gate,
            parts=np.array(of if max(of) else [], np.int64),
            thresholds=tuple(range(1 + max(of))),
            rates=(0.5,) * (1 + max(of)),
        )
        for gate, of in zip(gates.gates, parts, strict=True)
    )
    gated = _gated(network, replace(gates, gates=own))
    apart = ungated(gated.model, [gate.name for gate in own])
    model, known = split_parts(apart, [gate.decided for gate in own])

    branches = BranchChannels(network)
    cuts, zeros, gone = [], [], []
    for unit, gate, count in zip(found.units, own, running, strict=True):
        gone += [known[name] for name in gate.decided[count:]]
        if not count:
            cuts += unit.cuts
        elif len(gate.parts):
            inner = branches.of(unit).inner
            zeros.append(Narrowed(*inner, kept=gate.parts < count))
    case = case_for(NETS[NET], batch=2)
    (expected,) = network.reference.with_cuts(cuts).with_narrowed(zeros).run([case])
    cut = without(model, [cut for unit in gone for cut in unit.cuts])
    (computed,) = run_graph(cut, [case])
    for spec in network.outputs:
        assert_close(computed[spec.name], expected[spec.name])


@pytest.mark.parametrize("scaled", [True, False])
def test_parts_keep_to_norm_statistics_of_their_own(scaled: bool) -> None:
    """A scalar stands before the layer that is split, a norm behind it."""
    network, _ = exported(NET)
    gates = random_gates(network, channels=2)
    norms = Norms(network, random_norms(network, seed=0, scaled=scaled))
    gated = norms.apply(_gated(network, gates), "a")
    apart = ungated(gated.model, [gate.name for gate in gates.gates])
    model, _ = split_parts(apart, [gate.decided for gate in gates.gates])
    case = case_for(NETS[NET], batch=2)
    (whole,), (split,) = (run_graph(each, [case]) for each in (apart.model, model))
    for spec in network.outputs:
        assert_close(split[spec.name], whole[spec.name])

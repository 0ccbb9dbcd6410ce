"""Pieces of a graph, run one after the other, are the whole."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from skipc.compiler.axes.exit_places import places_of
from skipc.compiler.axes.exits import END, ExitsAxis
from skipc.compiler.family import family_of
from skipc.compiler.graph.pieces import pieces_of
from skipc.compiler.verify.onnx_reference import run_graph
from tests.exits import with_heads
from tests.zoo import NETS, case_for, exported


@pytest.mark.parametrize("name", ["torchvision-resnet", "mobilenet-v2", "forms", "swin"])
def test_the_pieces_compute_what_the_whole_does(name):
    heads = [place.name for place in places_of(exported(name)[0])]
    family = family_of(with_heads(name, heads))
    choice = ExitsAxis().read([*heads, END], family.offers["exits"], "here")
    network = family.subnet({"exits": choice}, "all").network
    case = case_for(NETS[name])
    (whole,) = run_graph(network.model, [case])
    known = dict(case)
    ran = set()
    for piece, answers in zip(
        pieces_of(network.model.graph, [each.values() for each in network.answers]),
        network.answers,
        strict=True,
    ):
        begins, ends = ([str(v.name) for v in vs] for vs in (piece.inputs, piece.outputs))
        assert set(answers.values()) <= set(ends)
        part = ir.Model(
            ir.convenience.extract(network.model.graph, begins, ends), ir_version=10
        )
        (found,) = run_graph(part, [{name: known[name] for name in begins}])
        known |= found
        for answer in answers.values():
            assert np.array_equal(found[answer], whole[answer])
        mine = {node for node in piece.nodes if any(n.name for n in node.outputs)}
        weighted = {node for node in mine if node.op_type in ("Conv", "Gemm", "MatMul")}
        assert not weighted & ran
        ran |= weighted
    every = {n for n in network.model.graph if n.op_type in ("Conv", "Gemm", "MatMul")}
    assert ran == every

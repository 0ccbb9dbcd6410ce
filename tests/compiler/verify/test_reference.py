"""The references agree with eager PyTorch, in which hooks set branches to zero."""

from __future__ import annotations

import tempfile
from dataclasses import replace

import numpy as np
import pytest

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.torch_reference import TorchReference
from tests.zoo import (
    NETS,
    WITH_UNITS,
    assert_close,
    case_for,
    eager_outputs,
    exported,
    skipping,
)


@pytest.mark.parametrize("name", WITH_UNITS)
def test_torch_reference_runs_every_single_unit_skipped(name):
    net = NETS[name]
    graph, search = exported(name)
    case = case_for(net)
    for unit in search.units[:4]:
        found = skipping(graph, [unit]).reference.run([case])[0]
        expected = eager_outputs(net, [unit.name], case)
        for array, eager in zip(found.values(), expected, strict=True):
            assert_close(array, eager, share=1e-5)


@pytest.mark.parametrize("name", ["parallel-right", "tied", "residual-in-residual", "linknet"])
def test_skipping_a_unit_changes_the_outputs(name):
    graph, search = exported(name)
    case = case_for(NETS[name])
    full = graph.reference.run([case])[0]["output"]
    for unit in search.units:
        assert not np.allclose(
            skipping(graph, [unit]).reference.run([case])[0]["output"], full
        )


def test_trace_names_tensors_as_the_graph_does():
    graph, _ = exported("torchvision-resnet")
    case = case_for(NETS["torchvision-resnet"])
    values = {value.name for node in graph.model.graph for value in node.outputs}
    traced = [name for name, _ in graph.reference.trace(case)]
    assert {"add", "relu_1", "output"} <= values & set(traced)


def test_trace_of_both_references_agrees():
    graph, search = exported("functional")
    case = case_for(NETS["functional"])
    cuts = list(search.units[0].cuts)
    torch_side = dict(graph.reference.with_cuts(cuts).trace(case))
    onnx_side = dict(OnnxReference(graph.model).with_cuts(cuts).trace(case))
    shared = torch_side.keys() & onnx_side.keys()
    assert {"add", "output"} <= shared
    for name in shared:
        assert_close(onnx_side[name], torch_side[name])


def test_onnx_reference_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    graph, _ = exported("functional")
    OnnxReference(graph.model).run([case_for(NETS["functional"])])
    assert not list(tmp_path.iterdir())


def test_join_that_the_program_does_not_add_is_no_unit():
    graph, search = exported("functional")
    assert isinstance(graph.reference, TorchReference)
    join = search.units[0].join
    strange = replace(graph.reference, names={join: "conv2d"})
    offer = SkipAxis().offer(replace(graph, reference=strange))
    assert join not in [unit.join for unit in offer.units]
    reason = next(rejected.reason for rejected in offer.rejected if rejected.join == join)
    assert "adds it up within another operator" in reason

"""Segments as ONNX Runtime sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from skipc.compiler.errors import SupernetError
from skipc.compiler.extras import require
from skipc.compiler.graph.index import node_inputs
from skipc.compiler.graph.passes.set_norms import MEAN, VARIANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from skipc.compiler.select.segments import Segment


class Piece:
    """One segment, ready to run.

    The statistics of its re-estimated norms are inputs, ``<norm output>.mean`` and
    ``.variance``: one session serves all configurations.

    Args:
        model: The supernet's graph, which the segment's nodes belong to.
        segment: The segment.
        threads: Threads of ONNX Runtime.
    """

    def __init__(self, model: ir.Model, segment: Segment, threads: int) -> None:
        ort = require("onnxruntime", "compiler")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # There are many sessions; threads that wait by spinning would starve the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        data = _serialized(model, segment)
        try:
            self._session = ort.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's exceptions share no base class below Exception.
        except Exception as cause:
            raise SupernetError(
                f"ONNX Runtime {ort.__version__} cannot load the part of the network that"
                f" computes {segment.output!r}: {cause}"
            ) from cause
        self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Returns the segment's output."""
        feed = {name: array for name, array in inputs.items() if name in self._inputs}
        output: NDArray[Any] = self._session.run(None, feed)[0]
        return output


def _serialized(model: ir.Model, segment: Segment) -> bytes:
    """Returns the segment as a model of its own."""
    onnx = require("onnx", "compiler")
    reestimated = {norm.output for norm, _ in segment.norms}
    inside = {value for node in segment.nodes for value in node.outputs}
    read = {value for node in segment.nodes for value in node_inputs(node)} - inside
    graph = onnx.GraphProto(name="segment")
    for value in sorted(read, key=lambda value: str(value.name)):
        if value.is_initializer() and value.const_value is not None:
            # In memory: a model made of bytes has no folder to find external weights in.
            tensor = ir.to_proto(ir.tensor(value.const_value.numpy()))
            tensor.name = value.name
            graph.initializer.append(tensor)
        else:
            graph.input.append(ir.to_proto(value))
    for node in segment.nodes:
        proto = ir.to_proto(node)
        name = str(node.outputs[0].name)
        if name in reestimated:
            for operand, kind in ((MEAN, "mean"), (VARIANCE, "variance")):
                proto.input[operand] = f"{name}.{kind}"
                given = node.inputs[operand]
                assert given is not None
                kind_of = onnx.helper.make_tensor_type_proto(int(given.dtype or 1), None)
                graph.input.append(
                    onnx.ValueInfoProto(name=proto.input[operand], type=kind_of)
                )
        graph.node.append(proto)
    output = next(value for value in inside if value.name == segment.output)
    graph.output.append(ir.to_proto(output))
    opsets = [
        onnx.helper.make_opsetid(domain, version)
        for domain, version in model.graph.opset_imports.items()
    ]
    made = onnx.ModelProto(ir_version=model.ir_version, graph=graph, opset_import=opsets)
    made.functions.extend(ir.to_proto(function) for function in model.functions.values())
    data: bytes = made.SerializeToString()
    return data

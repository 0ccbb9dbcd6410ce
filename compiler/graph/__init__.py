"""Helpers over ``onnx_ir`` graphs: index, costs, passes."""

"""Graph passes, each an ``onnx_ir`` pass: one idea per file."""

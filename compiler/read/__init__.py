"""A checkpoint becomes a supernet: files told apart, networks built, weights loaded."""

from skipc.compiler.read.checkpoint import (
    ModelOptions,
    OnnxSupernet,
    ProgramSupernet,
    Supernet,
    TorchSupernet,
    read_checkpoint,
)

__all__ = [
    "ModelOptions",
    "OnnxSupernet",
    "ProgramSupernet",
    "Supernet",
    "TorchSupernet",
    "read_checkpoint",
]

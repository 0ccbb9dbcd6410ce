"""Checkpoint → supernet: files told apart by content, networks built, weights loaded.

``read`` is the station; the files beside it each know one kind of file (``file_format``,
``state_dict``, ``graph_files`` behind ``pt2_guard``), how a network is built (``factories``,
``libraries``) or what its inputs are (``signature``, ``graph_inputs``).
"""

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

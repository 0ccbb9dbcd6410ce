"""An exported network as files: its graph, its program, and each of their weights once.

Nothing of it is run when it is read: the graph is ONNX, the program passes ``pt2_guard``. The
program is archived without its weights, most of which are the graph's, too, and is read when
it is first needed.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from skipc.compiler.bundle.weights import WeightStoreWriter
from skipc.compiler.errors import CompileError
from skipc.compiler.graph.passes.answer_early import ending
from skipc.compiler.network import Network, Switching, own_tolerance
from skipc.compiler.read.pt2_guard import program_from_file
from skipc.compiler.verify.torch_reference import TorchReference
from skipc.runtime.bundle.records import read, read_json, written
from skipc.runtime.bundle.tensors import (  # noqa: TC001  (a document's fields)
    Dimension,
    TensorSpec,
)
from skipc.runtime.errors import SkipcError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

NETWORK = "network.json"
GRAPH = "graph.onnx"
PROGRAM = "program.pt2"
WEIGHTS = "weights.bin"


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """Where a tensor of the program lies in the file of weights.

    Exporters turn the weights of linear layers: the transpose of a matrix may lie there.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    transposed: bool


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """What the graph and the program do not say themselves.

    Attributes:
        forms: What the network may leave out that switches more than its units.
        names, nodes, joins, values: As ``TorchReference`` has them.
        tensors: The program's tensors.
    """

    FORMAT: ClassVar[str] = "skipc.export/3"

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dimensions: tuple[Dimension, ...]
    description: str
    survival: Mapping[str, float]
    residual_scale: str
    forms: tuple[str, ...]
    names: Mapping[str, str]
    nodes: Mapping[str, str]
    joins: tuple[str, ...]
    values: tuple[str, ...]
    tensors: tuple[HeldTensor, ...]


def save_export(folder: Path, network: Network) -> None:
    """Writes a network exported from PyTorch; its program must hold nothing but tensors."""
    import onnx_ir as ir
    import torch

    reference = network.reference
    assert isinstance(reference, TorchReference)
    program = reference.program
    bare = _without_tensors(program)
    model = (network.branches or network.model).clone()
    with WeightStoreWriter(folder / WEIGHTS) as store:
        store.store(model)
        own = {tensor.sha256: tensor.offset_bytes for tensor in store.tensors}
        tensors = tuple(
            _held(name, tensor, store, own)
            for name, tensor in {**program.state_dict, **program.constants}.items()
        )
    ir.save(model, folder / GRAPH)
    torch.export.save(bare, folder / PROGRAM)
    record = NetworkRecord(
        inputs=network.inputs,
        outputs=network.outputs,
        dimensions=network.dimensions,
        description=network.description,
        survival=network.survival,
        residual_scale=network.residual_scale,
        forms=network.switching.names if network.switching is not None else (),
        names=reference.names,
        nodes=reference.outputs,
        joins=tuple(sorted(reference.joins)),
        values=tuple(sorted(reference.values)),
        tensors=tensors,
    )
    (folder / NETWORK).write_text(json.dumps(written(record)), encoding="utf-8")


def load_export(
    folder: Path,
    without: Callable[[frozenset[str]], Network],
    otherwise: Callable[[Exception], ExportedProgram],
) -> Network:
    """Returns the network in ``folder``, which is not needed any more afterwards.

    Args:
        folder: What ``save_export`` wrote.
        without: Returns another form of it, where it has several.
        otherwise: Returns the program where the one in ``folder`` turns out, when it is first
            needed, to be none.

    Raises:
        SkipcError: A file is damaged; an ``OSError``: one cannot be read.
    """
    import onnx_ir as ir

    from skipc.compiler.read.external_data import tensor_at

    record = read(NetworkRecord, read_json(folder / NETWORK), NETWORK)
    # One map for all: onnx_ir makes one, and keeps a file open, for each. "c": what is written
    # to it stays here.
    path = folder / WEIGHTS
    empty = not path.stat().st_size
    weights = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, mode="c")
    archive = (folder / PROGRAM).read_bytes()
    model = ir.load(folder / GRAPH)
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                if tensor.location != WEIGHTS:
                    raise CompileError(f"{GRAPH}: {tensor.name!r} is not in {WEIGHTS}.")
                value.const_value = tensor_at(tensor, weights)

    @functools.cache
    def opened() -> ExportedProgram:
        try:
            program = program_from_file(folder / PROGRAM, archive)
            _put_tensors(program, record.tensors, weights)
        except (SkipcError, ValueError) as cause:
            return otherwise(cause)
        return program

    own_exits = len(model.graph.outputs) > len(record.outputs)
    return Network(
        model=ending(model) if own_exits else model,
        branches=model if own_exits else None,
        reference=TorchReference(
            opened=opened,
            names=record.names,
            outputs=record.nodes,
            joins=frozenset(record.joins),
            values=frozenset(record.values),
        ),
        inputs=record.inputs,
        outputs=record.outputs,
        dimensions=record.dimensions,
        description=record.description,
        tolerance=own_tolerance(record.outputs),
        survival=record.survival,
        residual_scale=record.residual_scale,
        switching=Switching(record.forms, without) if record.forms else None,
    )


def _without_tensors(program: ExportedProgram) -> ExportedProgram:
    """Returns the same operators over empty tensors; the outputs are a list of no class."""
    import torch
    from torch.export.exported_program import ModuleCallEntry
    from torch.utils import _pytree as pytree

    def empty(tensor: object) -> torch.Tensor:
        if not isinstance(tensor, torch.Tensor):
            raise CompileError(f"its program holds {type(tensor).__name__!r}.")
        made = torch.empty(0)
        parameter = isinstance(tensor, torch.nn.Parameter)
        return torch.nn.Parameter(made, requires_grad=False) if parameter else made

    signature = copy.copy(program.module_call_graph[0].signature)
    assert signature is not None
    count = len(program.graph_signature.user_outputs)
    signature.out_spec = pytree.tree_structure(tuple(range(count)))
    return torch.export.ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict={name: empty(held) for name, held in program.state_dict.items()},
        range_constraints=program.range_constraints,
        module_call_graph=[ModuleCallEntry("", signature)],
        constants={name: empty(held) for name, held in program.constants.items()},
    )


def _put_tensors(
    program: ExportedProgram, tensors: tuple[HeldTensor, ...], weights: NDArray[np.uint8]
) -> None:
    """Gives a program its tensors back, which must be those that it was archived without."""
    import torch

    if {t.name for t in tensors} != program.state_dict.keys() | program.constants.keys():
        raise CompileError(f"{NETWORK}: 'tensors' are not those of {PROGRAM}.")
    for place in tensors:
        dtype = getattr(torch, place.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise CompileError(f"{NETWORK}: {place.name!r} is of the type {place.dtype!r}.")
        shape, count = place.shape, math.prod(place.shape)
        tensor = torch.empty(shape, dtype=dtype)
        if count:
            flat = torch.frombuffer(
                weights, dtype=dtype, count=count, offset=place.offset_bytes
            )
            turned = place.transposed
            tensor = (
                flat.reshape(shape[::-1]).t().contiguous() if turned else flat.reshape(shape)
            )
        held = program.state_dict if place.name in program.state_dict else program.constants
        held[place.name] = tensor


def _held(
    name: str, tensor: torch.Tensor, store: WeightStoreWriter, graphs: Mapping[str, int]
) -> HeldTensor:
    """Returns where a tensor of the program lies, after writing it if the graph has it not."""
    from onnx_ir.tensor_adapters import TorchTensor

    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    if tensor.ndim == 2:
        turned = TorchTensor(tensor.detach().t().contiguous()).tobytes()
        offset_bytes = graphs.get(hashlib.sha256(turned).hexdigest())
        if offset_bytes is not None:
            return HeldTensor(name, dtype, shape, offset_bytes, transposed=True)
    place = store.add(TorchTensor(tensor.detach()))
    return HeldTensor(name, dtype, shape, place.offset_bytes, transposed=False)

"""Exporting a supernet as one ONNX graph in which every node knows its module."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import CheckpointError, SupernetError
from skipc.compiler.network import Network, own_tolerance
from skipc.compiler.read.inputs import BATCH
from skipc.compiler.read.outputs import keep_onnx_outputs, output_specs, program_outputs
from skipc.compiler.read.random_ops import refuse_random_graph, refuse_random_program
from skipc.compiler.read.switching import Forms, SwitchingNetwork
from skipc.compiler.verify.golden import draw_inputs
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.torch_reference import TorchReference, additions_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx_ir as ir
    from torch.export import ExportedProgram

    from skipc.compiler.network import Reference
    from skipc.compiler.read import OnnxSupernet, ProgramSupernet, Supernet, TorchSupernet
    from skipc.runtime.bundle.tensors import BatchRange

_TERMINAL_CODES = re.compile("\x1b\\[[0-9;]*m")


def export_supernet(supernet: Supernet) -> Network:
    """Returns the network that is in a checkpoint.

    Its weights are held by reference where the source allows it. Batch norms are nodes of
    their own: what they become depends on the configuration.

    Raises:
        SupernetError: The network cannot be exported, is random, or has no usable output.
    """
    return supernet.exported()


def from_torch(supernet: TorchSupernet) -> Network:
    """Returns the network that a module is; see ``export_supernet``."""
    if not isinstance(supernet.source, SwitchingNetwork):
        return from_program(supernet, _program(supernet))
    forms = Forms(supernet.source, lambda: from_program(supernet, _program(supernet)))
    return forms.without(frozenset())


def _program(supernet: TorchSupernet) -> ExportedProgram:
    import torch

    batch = supernet.batch
    example = draw_inputs(supernet.inputs, _example_batch(batch), seed=0)
    dynamic: dict[str, Any] | None = None
    if batch is not None:
        # torch.export wants room between the two.
        high = max(batch.maximum, batch.minimum + 1)
        dim = torch.export.Dim(BATCH, min=batch.minimum, max=high)
        dynamic = {
            spec.name: {0: dim} if spec.shape[:1] == (BATCH,) else None
            for spec in supernet.inputs
        }
    with _quiet(), torch.no_grad(), _export_errors(supernet.model):
        return torch.export.export(
            supernet.source,
            (),
            {name: torch.from_numpy(array) for name, array in example.items()},
            dynamic_shapes=dynamic,
        )


def from_program(
    supernet: TorchSupernet | ProgramSupernet,
    program: ExportedProgram,
) -> Network:
    """Returns the network that a program is; see ``export_supernet``."""
    import onnx_ir.passes.common as common
    import torch

    from skipc.compiler.graph.passes.keep_norms import norms_kept
    from skipc.compiler.graph.passes.keep_zero_padding import KeepZeroPaddingPass
    from skipc.compiler.graph.passes.size_at_batch_one import SizeAtBatchOnePass
    from skipc.compiler.graph.passes.tidy_export import (
        KeepModulePathPass,
        NameSharedInitializersPass,
        RenameOutputsPass,
        SettleSizesPass,
    )

    refuse_random_program(program)
    with _quiet(), torch.no_grad(), _export_errors(supernet.model):
        exported = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
        assert exported is not None
        model = exported.model
        with norms_kept(model):
            exported.optimize()
    program = exported.exported_program or program
    outputs = program_outputs(model, program, supernet.output)
    rename = RenameOutputsPass({kept.value: kept.name for kept in outputs})
    rename(model)
    for step in (
        SettleSizesPass(supernet.inputs),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
        KeepZeroPaddingPass(),
        NameSharedInitializersPass(),
        KeepModulePathPass(),
        SizeAtBatchOnePass(),
    ):
        step(model)
    reference = TorchReference(
        opened=lambda: program,
        names=rename.moved | {kept.name: kept.value for kept in outputs},
        outputs={kept.name: kept.node for kept in outputs},
        additions=additions_of(program),
    )
    return _network(supernet, model, reference)


def from_onnx(supernet: OnnxSupernet) -> Network:
    """Returns the network that an ONNX file holds; see ``export_supernet``."""
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    from skipc.compiler.graph.passes.keep_zero_padding import KeepZeroPaddingPass
    from skipc.compiler.graph.passes.tidy_export import (
        KeepModulePathPass,
        NameSharedInitializersPass,
        SettleSizesPass,
    )

    try:
        model = ir.load(supernet.source)
    except Exception as cause:
        raise CheckpointError(
            f"{supernet.source}: cannot be read as an ONNX model:"
            f" {type(cause).__name__}: {cause}"
        ) from cause
    _check_external_weights(model, supernet.source)
    refuse_random_graph(model)
    for step in (
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
        common.NameFixPass(),
        SettleSizesPass(supernet.inputs),
    ):
        step(model)
    model = common.ShapeInferencePass()(model).model
    keep_onnx_outputs(model, supernet.output)
    for finish in (KeepZeroPaddingPass(), NameSharedInitializersPass(), KeepModulePathPass()):
        finish(model)
    return _network(supernet, model, OnnxReference(model))


def _network(
    supernet: TorchSupernet | ProgramSupernet | OnnxSupernet,
    model: ir.Model,
    reference: Reference,
) -> Network:
    outputs = output_specs(model, supernet.batch)
    return Network(
        model=model,
        reference=reference,
        inputs=supernet.inputs,
        outputs=outputs,
        batch=supernet.batch,
        description=supernet.model,
        tolerance=own_tolerance(outputs),
        survival=supernet.survival,
    )


def _check_external_weights(model: ir.Model, path: Path) -> None:
    """Checks that every weight outside the file can be read."""
    import onnx_ir as ir

    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if not isinstance(tensor, ir.ExternalTensor):
                continue
            try:
                tensor.numpy()  # maps the file, reads nothing yet
            except (OSError, ValueError) as cause:
                raise CheckpointError(
                    f"{path}: the weight {value.name!r} lies in {str(tensor.location)!r}"
                    f" beside it, which cannot be read: {cause}. Copy that file, too."
                ) from cause


def _example_batch(batch: BatchRange | None) -> int:
    # torch.export treats a dimension of 1 as fixed.
    return 1 if batch is None else max(batch.typical, 2)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's notes about itself; its errors still raise."""
    before = logging.root.manager.disable
    # torch gives many of its loggers a level of their own: one switch for all of them.
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _export_errors(model: str) -> Iterator[None]:
    try:
        yield
    except SupernetError:
        raise
    # The exporter runs the user's forward: anything can come out of it.
    except Exception as cause:
        raise SupernetError(
            f"{model}: PyTorch cannot export it: {_reason(cause)}"
            "\n  The forward pass must accept the given inputs and must not branch on their"
            " values; check --input, or export it yourself and pass the .pt2 or .onnx file."
        ) from cause


def _reason(error: BaseException) -> str:
    """Returns what went wrong in a few lines: the exporter wraps the reason in advice."""
    while type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = _TERMINAL_CODES.sub("", " ".join(lines[:4]))
    return f"{type(error).__name__}: {text}"

"""Exporting a supernet as one ONNX graph in which every node knows its module."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.errors import CheckpointError, SupernetError
from skipc.compiler.extras import require
from skipc.compiler.graph.batch_norms import norms_kept
from skipc.compiler.graph.passes.answer_early import ending
from skipc.compiler.graph.passes.follow_sizes import FollowSizesPass
from skipc.compiler.graph.passes.keep_zero_padding import KeepZeroPaddingPass
from skipc.compiler.graph.passes.mark_streams import MarkStreamsPass
from skipc.compiler.graph.passes.normalise_onnx import (
    ForgetSizesPass,
    OpenSizesPass,
    normalise,
)
from skipc.compiler.graph.passes.size_at_batch_one import SizeAtBatchOnePass
from skipc.compiler.graph.passes.tidy_export import (
    KeepModulePathPass,
    NameSharedInitializersPass,
    RenameOutputsPass,
    SettleSizesPass,
)
from skipc.compiler.graph.passes.turn_keys import TurnKeysPass
from skipc.compiler.network import Network, Tolerance, own_tolerance
from skipc.compiler.read.external_data import map_external
from skipc.compiler.read.free_dimensions import dynamic_shapes, range_error, traced_sizes
from skipc.compiler.read.graph_inputs import read_onnx
from skipc.compiler.read.outputs import (
    keep_onnx_outputs,
    output_fields,
    output_specs,
    program_outputs,
)
from skipc.compiler.read.program_forms import settle_forms
from skipc.compiler.read.random_ops import refuse_random_graph, refuse_random_program
from skipc.compiler.read.resized import check_graph
from skipc.compiler.read.switching import SwitchingNetwork, in_forms
from skipc.compiler.verify.golden import draw_inputs
from skipc.compiler.verify.numerics import difference, least_around_one, ranges_of
from skipc.compiler.verify.onnx_reference import OnnxReference, run_graph
from skipc.compiler.verify.torch_reference import TorchReference, joins_of, values_of
from skipc.runtime.bundle.tensors import BATCH, typical_sizes
from skipc.runtime.errors import reason_of, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch.export import ExportedProgram

    from skipc.compiler.network import Reference
    from skipc.compiler.read import OnnxSupernet, ProgramSupernet, TorchSupernet
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import Dimension

_TERMINAL_CODES = re.compile("\x1b\\[[0-9;]*m")


def from_torch(supernet: TorchSupernet) -> Network:
    """Returns the network that a module is; see ``Supernet.exported``."""

    def trace() -> Network:
        return from_program(supernet, _program(supernet))

    if isinstance(supernet.source, SwitchingNetwork):
        if supernet.exit_outputs:
            raise SupernetError(
                f"--exit-outputs: {supernet.model} is traced once per configuration. Leave it"
                " out, and train heads with `skipc heads`."
            )
        return in_forms(supernet.source, supernet.model, trace)
    return trace()


def _program(supernet: TorchSupernet) -> ExportedProgram:
    import torch

    free = supernet.dimensions
    example = draw_inputs(supernet.inputs, traced_sizes(free), seed=0)
    with _quiet(), torch.no_grad(), _export_errors(supernet.model, free):
        return torch.export.export(
            supernet.source,
            (),
            {name: torch.from_numpy(array) for name, array in example.items()},
            dynamic_shapes=dynamic_shapes(supernet.inputs, free),
        )


def from_program(
    supernet: TorchSupernet | ProgramSupernet,
    program: ExportedProgram,
) -> Network:
    """Returns the network that a program is; see ``Supernet.exported``."""
    import torch

    refuse_random_program(program)
    settle_forms(program)
    with _quiet(), torch.no_grad(), _export_errors(supernet.model):
        exported = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
        assert exported is not None
        model = exported.model
        MarkStreamsPass()(model)
        with norms_kept(model):
            exported.optimize()
    program = exported.exported_program or program
    outputs = program_outputs(model, program, supernet.output, supernet.exit_outputs)
    rename = RenameOutputsPass({kept.value: kept.name for kept in outputs})
    rename(model)
    for step in (
        TurnKeysPass(),
        SettleSizesPass(supernet.inputs),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
        KeepZeroPaddingPass(),
        NameSharedInitializersPass(),
        KeepModulePathPass(),
        SizeAtBatchOnePass(supernet.dimensions),
    ):
        step(model)
    reference = TorchReference(
        opened=lambda: program,
        names=rename.moved
        | {kept.name: kept.value for kept in outputs}
        | {kept.name: kept.node for kept in outputs[: len(supernet.exit_outputs)]},
        outputs={kept.name: kept.node for kept in outputs[len(supernet.exit_outputs) :]},
        joins=joins_of(program),
        values=values_of(program),
    )
    return _network(supernet, model, reference, tuple(output_fields(program)))


def from_onnx(supernet: OnnxSupernet) -> Network:
    """Returns the network that an ONNX file holds; see ``Supernet.exported``."""
    require("onnxscript", "compiler")

    proto = read_onnx(supernet.source)
    try:
        model = ir.from_proto(proto)
    except Exception as cause:
        raise CheckpointError(
            f"{supernet.source}: cannot be read as an ONNX model:"
            f" {type(cause).__name__}: {cause}"
        ) from cause
    map_external(model, supernet.source)
    refuse_random_graph(model)
    if supernet.size is not None:
        OpenSizesPass()(model)
    ForgetSizesPass()(model)
    original = model.clone()
    model = normalise(model, supernet.inputs)
    names = keep_onnx_outputs(model, supernet.output, supernet.exit_outputs)
    if supernet.size is not None:
        check_graph(supernet, model, supernet.size)
    FollowSizesPass(supernet.dimensions)(model)
    _observe_outputs(model, supernet)
    for finish in (
        KeepZeroPaddingPass(),
        NameSharedInitializersPass(),
        KeepModulePathPass(),
        SizeAtBatchOnePass(supernet.dimensions),
    ):
        finish(model)
    ends = tuple(str(each.name) for each in model.graph.outputs)[len(supernet.exit_outputs) :]
    made = _network(supernet, model, OnnxReference(model, ends), names)
    check = _same_as_file(original, model, supernet.source, made.tolerance)
    return replace(made, reference=OnnxReference(model, ends, check=check))


def _observe_outputs(model: ir.Model, supernet: OnnxSupernet) -> None:
    """Gives outputs of unknown size the one that they have whatever goes in.

    Sizes are unknown behind operators of other domains, behind what a free dimension computes,
    and behind branches that depend on an input. One that follows a free dimension is called
    by its name, one that follows otherwise has none.
    """
    free, outputs = supernet.dimensions, model.graph.outputs
    known = {each.name for each in free}
    told = all(each.dtype and each.shape and _is_known(each.shape, known) for each in outputs)
    if told and known <= {BATCH}:
        return
    usual = typical_sizes(free)
    sizes = [usual] * 3 + [
        {**usual, each.name: each.minimum if each.typical == each.maximum else each.maximum}
        for each in free
    ]
    try:
        answers = run_graph(
            model, [draw_inputs(supernet.inputs, at, seed) for seed, at in enumerate(sizes)]
        )
    # What the network may be given is not known here, e.g. the largest index of a table.
    except Exception as cause:
        if known <= {BATCH}:
            return
        ranges = " ".join(f"--dim {each.name}={each.range}" for each in free)
        raise SupernetError(
            f"{supernet.source}: does not run at all ends of {ranges}:"
            f" {sentence(reason_of(cause))} Give sizes that it takes; a fourth number is a"
            " step: --dim H=160:320:640:32."
        ) from cause
    for value in outputs:
        seen = [answer[str(value.name)] for answer in answers]
        value.shape = None
        if len({(one.shape, one.dtype) for one in seen[:3]}) == 1:
            shapes = zip(*(one.shape for one in seen), strict=True)
            value.shape = ir.Shape([_followed(found, sizes) for found in shapes])
            value.dtype = ir.DataType.from_numpy(seen[0].dtype)


def _is_known(shape: ir.Shape, free: set[str]) -> bool:
    return all(isinstance(dim, int) or dim.value in free for dim in shape)


def _followed(found: Sequence[int], sizes: Sequence[Mapping[str, int]]) -> int | str | None:
    """Returns what a size follows, seen at some sizes of free dimensions; None if neither."""
    if len(set(found)) == 1:
        return found[0]
    same = (name for name in sizes[0] if [at[name] for at in sizes] == [*found])
    return next(same, None)


def _same_as_file(
    original: ir.Model, model: ir.Model, path: Path, tolerance: Tolerance
) -> Callable[[Sequence[Case]], None]:
    """Returns what compares the graph, once, with the file that it was made from."""
    pending = [(original, model)]

    def check(cases: Sequence[Case]) -> None:
        if not pending:
            return
        expected, found = (run_graph(each, cases[:1]) for each in pending.pop())
        wanted = [{name: case[name] for name in found[0]} for case in expected]
        ranges = ranges_of(wanted, least_around_one(wanted, tolerance.least_range))
        apart = difference(found, wanted, ranges)
        if not apart.within(tolerance.relative):
            raise SupernetError(
                f"{path}: brought into the form that units are found in,"
                f" {apart.text('the file itself', tolerance.relative)} Nothing may change:"
                " report it with the file."
            )

    return check


def _network(
    supernet: TorchSupernet | ProgramSupernet | OnnxSupernet,
    model: ir.Model,
    reference: Reference,
    names: Sequence[str],
) -> Network:
    *exits, end = output_specs(model, supernet.dimensions, names)
    for spec in exits if supernet.exit_outputs else ():
        if (spec.dtype, spec.shape) != (end.dtype, end.shape):
            raise SupernetError(
                f"--exit-outputs {spec.name!r}: it is {spec.kind}, the end {end.name!r} is"
                f" {end.kind}. All exits answer alike."
            )
    outputs = (end,) if supernet.exit_outputs else (*exits, end)
    return Network(
        model=ending(model) if supernet.exit_outputs else model,
        branches=model if supernet.exit_outputs else None,
        reference=reference,
        inputs=supernet.inputs,
        outputs=outputs,
        dimensions=supernet.dimensions,
        description=supernet.model,
        tolerance=own_tolerance(outputs),
        survival=supernet.survival,
        residual_scale=supernet.residual_scale,
    )


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
def _export_errors(model: str, free: Sequence[Dimension] = ()) -> Iterator[None]:
    try:
        yield
    except SupernetError:
        raise
    # The exporter runs the user's forward: anything can come out of it.
    except Exception as cause:
        impossible = range_error(model, cause, free)
        if impossible is not None:
            raise impossible from cause
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

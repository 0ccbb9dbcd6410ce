"""Reading a checkpoint of any kind: what becomes the supernet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from skipc.compiler.errors import CheckpointError, SupernetError
from skipc.compiler.extras import require
from skipc.compiler.read.bounds import bounded
from skipc.compiler.read.factories import BuiltModel, build_model, build_named, parse_arguments
from skipc.compiler.read.file_format import is_checkpoint_file, parse_checkpoint_file
from skipc.compiler.read.graph_inputs import (
    check_program_ranges,
    onnx_inputs,
    program_inputs,
    settle_inputs,
)
from skipc.compiler.read.inputs import check_inputs, check_runs, named_inputs
from skipc.compiler.read.pt2_guard import program_from_file
from skipc.compiler.read.resized import sized
from skipc.compiler.read.sniff import Kind, sniff
from skipc.compiler.read.state_dict import find_weights, load_weights
from skipc.compiler.read.survival import survival_from_modules
from skipc.runtime.bundle.tensors import BATCH, Dimension
from skipc.runtime.errors import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import nn
    from torch.export import ExportedProgram

    from skipc.compiler.network import Network, Size
    from skipc.runtime.bundle.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What the command line says about the network, by its options.

    Attributes:
        model: ``LIBRARY:NAME`` or ``PKG.MODULE:FACTORY``.
        model_args: ``--model-arg``, each split at its first ``=``.
        inputs: ``--input``; a name may be empty.
        dimensions: ``--batch`` and ``--dim``.
        output: The one output to keep.
        exit_outputs: Outputs that are exits of the network's own.
        weights: Which of several sets of weights, or the prefix of their names.
    """

    model: str | None = None
    model_args: tuple[tuple[str, str], ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    dimensions: tuple[Dimension, ...] = ()
    output: str | None = None
    exit_outputs: tuple[str, ...] = ()
    weights: str | None = None


class Supernet(Protocol):
    """What a checkpoint holds."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The network's inputs; nothing is exported to tell."""

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The free dimensions that its inputs name."""

    @property
    def residual_scale(self) -> str:
        """How the checkpoint says that kept branches are scaled at test time."""

    @property
    def exit_outputs(self) -> tuple[str, ...]:
        """Outputs that are exits of the network's own, in network order."""

    def exported(self) -> Network:
        """Returns the network.

        Its weights are held by reference where the source allows it. Batch norms are nodes of
        their own: what they become depends on the configuration.

        Raises:
            SupernetError: It cannot be exported, is random, or has no usable output.
        """

    def with_rows(self, rows: int) -> Supernet:
        """Returns the same network with a free batch of up to ``rows``.

        Raises:
            SupernetError: It has no such form, which may be told when it is exported.
        """

    def at(self, size: Size) -> Supernet:
        """Returns the same network for images of another height and width.

        Raises:
            SupernetError: It takes no images, or none of that size; some of it may be told
                when it is exported.
        """


@dataclass(frozen=True, slots=True)
class _Supernet:
    """What is known of every network that was read.

    Attributes:
        source: What holds the network.
        inputs: Its inputs. A size that a graph leaves open may be fixed here.
        dimensions: The free dimensions that its inputs name.
        output: The one output to keep, None for the default.
        model: The factory and its arguments, or the file's name, as text for the manifest.
        survival: Survival probabilities by module path; what the checkpoint says comes first.
        residual_scale: How the checkpoint says that kept branches are scaled at test time.
        exit_outputs: Outputs that are exits of the network's own, in network order.
        size: Of its images, where it is another one than the file's.
    """

    source: Any
    inputs: tuple[TensorSpec, ...]
    dimensions: tuple[Dimension, ...]
    output: str | None
    model: str
    survival: Mapping[str, float] = field(default_factory=dict)
    residual_scale: str = "inverted"
    exit_outputs: tuple[str, ...] = ()
    size: Size | None = None

    def with_rows(self, rows: int) -> Supernet:
        """Refuses: the network was exported elsewhere."""
        raise SupernetError("only a PyTorch network can be exported again with another batch.")

    def at(self, size: Size) -> Supernet:
        """Refuses: the network was exported elsewhere."""
        raise SupernetError(
            f"{self.model} was exported for one size of its images. Give its checkpoint, or an"
            " ONNX file."
        )


class TorchSupernet(_Supernet):
    """A PyTorch network in eval mode, on the CPU; its inputs are ordered as ``forward``'s."""

    source: nn.Module

    def exported(self) -> Network:
        """Returns the network; see ``Supernet``."""
        from skipc.compiler.read.export import from_torch

        return from_torch(self)

    def with_rows(self, rows: int) -> TorchSupernet:
        """Returns the network with a free batch of up to ``rows``; see ``Supernet``."""
        fixed = [spec for spec in self.inputs if spec.shape[:1] != (1,)]
        if fixed:
            raise SupernetError(
                f"the first dimension of the input {fixed[0].name!r} is not 1."
            )
        inputs = tuple(replace(spec, shape=(BATCH, *spec.shape[1:])) for spec in self.inputs)
        # The example that is traced has the typical size: two rows say as much as many.
        batch = Dimension(BATCH, 1, min(rows, 2), rows)
        return replace(self, inputs=inputs, dimensions=(batch, *self.dimensions))

    def at(self, size: Size) -> TorchSupernet:
        """Returns the network for images of another size, tried once; see ``Supernet``."""
        from skipc.compiler.read.resized import torch_at

        return torch_at(self, size)


class ProgramSupernet(_Supernet):
    """A ``torch.export`` program."""

    source: ExportedProgram

    def exported(self) -> Network:
        """Returns the network; see ``Supernet``."""
        from skipc.compiler.read.export import from_program

        return from_program(self, self.source)


class OnnxSupernet(_Supernet):
    """An ONNX graph, by its file."""

    source: Path

    def exported(self) -> Network:
        """Returns the network; see ``Supernet``."""
        from skipc.compiler.read.export import from_onnx

        return from_onnx(self)

    def at(self, size: Size) -> OnnxSupernet:
        """Returns the network for images of another size; see ``Supernet``."""
        return replace(self, inputs=sized(self.inputs, size), size=size)


def read_checkpoint(path: Path, options: ModelOptions) -> Supernet:
    """Returns the supernet in the checkpoint at ``path``.

    The kind is told by the file's content. Nothing in the file is run: weights are loaded
    with ``weights_only=True``, and a ``torch.export`` archive is checked first.

    Raises:
        CheckpointError: The file, the factory and the inputs do not fit together.
        ExtraMissingError: A library that is needed is not installed.
    """
    return replace(_read(path, options), exit_outputs=options.exit_outputs)


def _read(path: Path, options: ModelOptions) -> TorchSupernet | ProgramSupernet | OnnxSupernet:
    kind = sniff(path)
    if kind is Kind.ONNX:
        _refuse_model(path, options, kind)
        inputs = settle_inputs(
            onnx_inputs(path), options.inputs, options.dimensions, str(path)
        )
        return OnnxSupernet(path, inputs, options.dimensions, options.output, path.name)
    require("torch", "compiler")
    if kind is Kind.PROGRAM:
        _refuse_model(path, options, kind)
        program = program_from_file(path)
        inputs = settle_inputs(
            program_inputs(path, program),
            options.inputs,
            options.dimensions,
            str(path),
        )
        check_program_ranges(path, program, inputs, options.dimensions)
        return ProgramSupernet(program, inputs, options.dimensions, options.output, path.name)
    content = content_of(path, kind)
    if is_checkpoint_file(content):
        return _from_checkpoint_file(path, content, options)
    return _from_weights(path, content, options)


def _from_checkpoint_file(path: Path, content: object, options: ModelOptions) -> TorchSupernet:
    """The command line comes first; another ``--model`` takes no argument of the file."""
    file = parse_checkpoint_file(path, content)
    arguments = parse_arguments(options.model_args)
    if options.model in (None, file.model):
        arguments = {**file.arguments, **arguments}
    weights = find_weights(path, file.state_dict, options.weights)
    if options.model not in (None, file.model):
        built = build_model(options.model, arguments)
    else:
        try:
            with bounded(sum(tensor.nbytes for tensor in weights.values())):
                built = build_named(file.model, arguments)
        except CheckpointError as cause:
            raise CheckpointError(f"{path}: {cause}") from cause
    load_weights(path, built.module, weights, built.model)
    inputs = options.inputs or file.inputs or built.inputs
    dimensions = options.dimensions or (() if options.inputs else file.dimensions)
    found = _supernet(path, built, inputs, dimensions, options.output, file.survival)
    return replace(found, residual_scale=file.residual_scale)


def _from_weights(path: Path, content: object, options: ModelOptions) -> TorchSupernet:
    weights = find_weights(path, content, options.weights)
    if options.model is None:
        raise CheckpointError(
            f"{path}: holds {len(weights)} weights but not the network they belong to. Add"
            " --model PKG.MODULE:FACTORY, or of a known library, e.g."
            " --model transformers:ResNetForImageClassification"
        )
    built = build_model(options.model, parse_arguments(options.model_args))
    load_weights(path, built.module, weights, built.model)
    inputs = options.inputs or built.inputs
    return _supernet(path, built, inputs, options.dimensions, options.output, {})


def _supernet(
    path: Path,
    built: BuiltModel,
    inputs: tuple[TensorSpec, ...],
    dimensions: tuple[Dimension, ...],
    output: str | None,
    survival: Mapping[str, float],
) -> TorchSupernet:
    if not inputs:
        raise CheckpointError(
            f"{path}: does not say what the inputs of {built.model} are. Add them, e.g."
            " --input 1x3x224x224, or --input input_ids=1x128:int64 for each of several."
        )
    check_inputs(inputs, dimensions)
    module = built.module.cpu().eval()
    named = named_inputs(module, inputs)
    check_runs(module, named, dimensions, built.model)
    found = {**survival_from_modules(module), **survival}
    return TorchSupernet(module, named, dimensions, output, built.model, found)


def _refuse_model(path: Path, options: ModelOptions, kind: Kind) -> None:
    if options.model is not None or options.model_args or options.weights is not None:
        raise CheckpointError(
            f"{path}: is {kind.value}, which holds the network itself. Leave --model,"
            " --model-arg and --weights out."
        )


def content_of(path: Path, kind: Kind) -> object:
    """Returns what a file of weights holds: their names and tensors, or what they lie in.

    Raises:
        CheckpointError: It is damaged, or holds more than weights.
    """
    return _load_safetensors(path) if kind is Kind.SAFETENSORS else _load_torch(path)


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    safetensors = require("safetensors", "compiler")
    from safetensors.torch import load_file

    try:
        weights: dict[str, torch.Tensor] = load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError, ValueError) as cause:
        raise CheckpointError(
            f"{path}: damaged safetensors file: {cause}. Save or download it again."
        ) from cause
    return weights


def _load_torch(path: Path) -> object:
    import torch

    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files make the unpickler raise anything: EOFError, KeyError, UnicodeDecodeError …
    except Exception as cause:
        found = re.search(r"GLOBAL (\S+)", str(cause))
        if found is None:
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            raise CheckpointError(
                f"{path}: damaged, or no file of torch.save: {sentence(reason[:200])}"
                " Save, copy or download it again."
            ) from cause
        raise CheckpointError(
            f"{path}: holds Python objects ({found[1]!r}), not weights alone, and loading"
            " those runs code from the file. If you trust it, save its weights alone, once:"
            f"\n  model = torch.load({path.name!r}, weights_only=False)"
            "\n  torch.save(model.state_dict(), 'weights.pt')"
            "\n(for a dict: save the state_dict in it), then build from it with --model."
        ) from cause
    return content

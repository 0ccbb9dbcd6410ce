"""Makes an exported graph fit to publish: neutral names, module paths, no stack traces."""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.index import (
    CALLS_KEY,
    MODULE_KEY,
    STREAM_KEY,
    module_calls,
    module_path,
)
from skipc.compiler.graph.passes import RewritePass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.runtime.bundle.tensors import Size, TensorSpec


_MULTIPLE = re.compile(r"(\d+)\*(\w+)")
_WORD = re.compile(r"[A-Za-z_]\w*")


class KeepModulePathPass(RewritePass):
    """Replaces every node's metadata by its module path alone.

    The exporter records stack traces, which name files of the machine that exported.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the metadata of all nodes and values."""
        for graph in model.graphs():
            for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
                value.metadata_props.clear()
        for node in model.graph.all_nodes():
            path, calls = module_path(node), module_calls(node)
            stream = node.metadata_props.get(STREAM_KEY)
            node.metadata_props.clear()
            if stream is not None:
                node.metadata_props[STREAM_KEY] = stream
            node.doc_string = None
            if path:
                node.metadata_props[MODULE_KEY] = path
                outer = ("", *(f"{call}." for call in calls))
                parts = [call.removeprefix(o) for o, call in zip(outer, calls, strict=False)]
                if "/".join(parts) != path.replace(".", "/"):
                    node.metadata_props[CALLS_KEY] = "/".join(parts)
            for value in node.outputs:
                value.metadata_props.clear()
        model.metadata_props.clear()
        model.graph.metadata_props.clear()
        model.graph.doc_string = None


class NameSharedInitializersPass(RewritePass):
    """Gives tensors that several modules read a name that belongs to none of them.

    The exporter merges equal ones under the name of the first, which would be a trace of it.
    """

    def rewrite(self, model: ir.Model) -> None:
        """Renames the initializers read from more than one module."""
        taken = set(model.graph.initializers)
        free = (name for i in itertools.count() if (name := f"shared.{i}") not in taken)
        for value in list(model.graph.initializers.values()):
            modules = {module_path(user) for user, _ in value.uses()}
            if len(modules) > 1 and not str(value.name).startswith("shared."):
                value.name = next(free)


class SettleSizesPass(RewritePass):
    """Writes the inputs' sizes into every shape: fixed ones and free dimensions' names."""

    def __init__(self, inputs: tuple[TensorSpec, ...]) -> None:
        super().__init__()
        self._specs = {spec.name: spec for spec in inputs}

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the shapes of all values."""
        sizes: dict[str, Size] = {}
        for value in model.graph.inputs:
            spec = self._specs.get(str(value.name))
            if spec is not None:
                if value.shape is not None:
                    _collect_sizes(value, spec, sizes)
                value.shape = ir.Shape(spec.shape)
        values = [*model.graph.outputs]
        for node in model.graph.all_nodes():
            values.extend(node.outputs)
        for value in values:
            if value.shape is not None:
                value.shape = ir.Shape([_settled(dim, sizes) for dim in value.shape])


def _collect_sizes(value: ir.Value, spec: TensorSpec, sizes: dict[str, Size]) -> None:
    assert value.shape is not None
    for dim, size in zip(value.shape, spec.shape, strict=True):
        if isinstance(dim, int):
            if dim != size:
                raise SupernetError(
                    f"input {spec.name!r}: the network fixes a size to {dim}, which was given"
                    f" as {size}. Give {dim}."
                )
        elif dim.value is not None:
            symbol, meaning = _solved(dim.value, size)
            if sizes.setdefault(symbol, meaning) != meaning:
                raise SupernetError(
                    f"input {spec.name!r}: the network wants one size for every dimension"
                    f" called {symbol!r}, which was given as {sizes[symbol]} and as {meaning}."
                )


def _solved(dim: str, size: Size) -> tuple[str, Size]:
    """Returns the symbol in a dimension, and what it is where the dimension is ``size``."""
    multiple = _MULTIPLE.fullmatch(dim)
    if multiple is None:
        return dim, size
    step = int(multiple[1])
    return multiple[2], size // step if isinstance(size, int) else f"{size}//{step}"


def _settled(dim: int | ir.SymbolicDim, sizes: Mapping[str, Size]) -> Size | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    if dim.value in sizes:
        return sizes[dim.value]
    fixed = {name: size for name, size in sizes.items() if isinstance(size, int)}
    known = dim.evaluate(fixed) if dim.free_symbols() <= fixed.keys() else None
    if isinstance(known, int):
        return known
    meant = {name: f"({size})" for name, size in sizes.items()}
    return _short(_WORD.sub(lambda word: meant.get(word[0], word[0]), dim.value))


def _short(text: str) -> str:
    """Returns a size without needless brackets and spaces; ``4*(T//4)`` is ``T`` in steps."""
    try:
        return ast.unparse(ast.parse(text, mode="eval")).replace(" ", "")
    except SyntaxError:
        return text


class RenameOutputsPass(RewritePass):
    """Keeps some of the graph's outputs and names them.

    Args:
        names: By the name in the graph, in the order to keep; no new one may be an input's.

    Attributes:
        moved: The old name by the new one of values whose names the outputs took.
    """

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__()
        self._names = names
        self.moved: dict[str, str] = {}

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the list of outputs."""
        graph = model.graph
        values = [*graph.inputs, *graph.initializers.values()]
        for node in graph.all_nodes():
            values.extend(node.outputs)
        by_name = {str(value.name): value for value in values}
        kept = [by_name[name] for name in self._names]
        for value, name in zip(kept, self._names.values(), strict=True):
            other = by_name.get(name, value)
            if other is not value:
                inner = f"{name}.inner"
                while inner in by_name:
                    inner += "_"
                self.moved[inner] = name
                other.name = inner
                by_name[inner] = other
        graph.outputs.clear()
        for value, name in zip(kept, self._names.values(), strict=True):
            value.name = name
            graph.outputs.append(value)

"""What a subnet is compared with: PyTorch running the same configuration.

The exported program is interpreted operator by operator with PyTorch's own kernels; a cut
operand is replaced by zeros. It shares neither the exporter's graph nor the passes with the
subnet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skipc.compiler.cut import operands_by_node
from skipc.compiler.gating import Deciding, mask_shape
from skipc.compiler.network import Reference
from skipc.runtime.bundle.gates import DECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from skipc.compiler.cut import Cut, Narrowed
    from skipc.compiler.norms.statistics import NormStatistics
    from skipc.compiler.verify.numerics import Case


_JOINS = ("aten.add.", "aten.add_.", "aten.cat.", "aten.sub.", "aten.sub_.")


@dataclass(frozen=True)
class TorchReference(Reference):
    """Interprets an exported program.

    Attributes:
        opened: Returns the program that the graph was exported from, always the same one.
        names: For graph values that were renamed after the export, the program's name.
        outputs: The program's output names by the graph's.
        joins: The program's additions and concatenations, by name: what may be cut.
        values: What its operators compute, by name.
    """

    name: ClassVar[str] = "pytorch"
    opened: Callable[[], ExportedProgram]
    names: Mapping[str, str]
    outputs: Mapping[str, str]
    joins: frozenset[str]
    values: frozenset[str]

    @property
    def program(self) -> ExportedProgram:
        """The program, loaded when it is first asked for."""
        return self.opened()

    def can_cut(self, cut: Cut) -> bool:
        """Tells whether the node is a join in the program, too."""
        return self.node_name(cut.node) in self.joins

    def can_narrow(self, value: str) -> bool:
        """Tells whether the program computes the tensor, too."""
        return self.node_name(value) in self.values

    def run(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the outputs by name for each case."""
        return [self._outputs(case) for case in cases]

    def _outputs(self, inputs: Case) -> Case:
        found: Case = {}

        def keep(node: str, value: object) -> None:
            if node in wanted:
                found[node] = _to_numpy(value)

        outputs = self.outputs if self.ends else {}
        wanted = {*outputs.values(), *(self.node_name(each.at) for each in self.exits)}
        decided = self._interpret(inputs, keep)
        early = {e.output: e.answer(found[self.node_name(e.at)]) for e in self.exits}
        return early | {name: found[node] for name, node in outputs.items()} | decided

    def trace(self, inputs: Case) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields every intermediate tensor by its name in the graph, in order."""
        import torch

        renamed = {node: name for name, node in self.names.items()}
        found: list[tuple[str, NDArray[Any]]] = []

        def keep(node: str, value: object) -> None:
            if isinstance(value, torch.Tensor):
                found.append((renamed.get(node, node), _to_numpy(value)))

        self._interpret(inputs, keep)
        yield from found

    def _interpret(self, inputs: Case, keep: Callable[[str, object], None]) -> Case:
        """Runs the program; returns what gates decided, nothing without."""
        import torch

        cuts = operands_by_node(self.cuts)
        zeros = {self.node_name(node): operands for node, operands in cuts.items()}
        scales = {self.node_name(c.node): (c.operand, f) for c, f in self.scales.items()}
        norms = self.norm_nodes()
        narrowed = {self.node_name(each.value): each for each in self.narrowed}
        gating = self.gating
        deciding = None if gating is None else Deciding(gating)
        placed = () if gating is None else gating.gates
        gated = {self.node_name(each.cut.node): each.cut for each in placed}
        before = {self.node_name(each.at): each.at for each in placed}
        inner = {self.node_name(i.value): i for i in (each.inner for each in placed) if i}

        class Interpreter(torch.fx.Interpreter):
            def run_node(self, node: torch.fx.Node) -> Any:
                if node.op == "call_function" and node not in needed:
                    return None
                if node.name in joins:
                    result = self._join(node)
                elif node.name in norms:
                    result = self._norm(node)
                else:
                    result = super().run_node(node)
                if node.name in narrowed:
                    result = _without_channels(result, narrowed[node.name])
                if deciding is not None and node.name in inner:
                    value, axis = inner[node.name]
                    result = _rows(result, deciding.stays[value], axis)
                if deciding is not None and node.name in before:
                    deciding.see(before[node.name], _to_numpy(result))
                keep(node.name, result)
                return result

            def _join(self, node: torch.fx.Node) -> Any:
                values, named = self.fetch_args_kwargs_from_env(node)
                # The operands of a concatenation are a list, the first argument.
                listed = isinstance(values[0], list | tuple)
                operands = list(values[0] if listed else values)
                for operand in zeros.get(node.name, ()):
                    # The other operand of an addition has the sum's shape and type.
                    operands[operand] = torch.zeros_like(
                        operands[operand if listed else 1 - operand]
                    )
                if node.name in scales:
                    operand, factor = scales[node.name]
                    operands[operand] = operands[operand] * factor
                if deciding is not None and node.name in gated:
                    cut = gated[node.name]
                    operands[cut.operand] = _rows(operands[cut.operand], deciding.runs[cut])
                arguments = (operands, *values[1:]) if listed else tuple(operands)
                return self.call_function(node.target, arguments, named)

            def _norm(self, node: torch.fx.Node) -> Any:
                values, named = self.fetch_args_kwargs_from_env(node)
                operands = list(values)
                set_statistics(node, operands, norms[node.name])
                return self.call_function(node.target, tuple(operands), named)

        joins = zeros.keys() | scales.keys() | gated.keys()
        needed = _needed(self.program.graph, zeros)
        with torch.no_grad():
            Interpreter(self.program.graph_module).run(*self._arguments(inputs))
        return {} if deciding is None else deciding.outputs(DECISIONS)

    def node_name(self, join: str) -> str:
        """Returns the program's name for a value of the graph."""
        return self.names.get(join, join)

    def norm_nodes(self) -> dict[str, NormStatistics]:
        """Returns the statistics by the program's batch norm."""
        nodes = {node.name: node for node in self.program.graph.nodes}
        found = {}
        for output, norm in self.norms.items():
            node = nodes[self.node_name(output)]
            # The core operator returns a tuple, of which the graph's value is the first.
            while "norm" not in str(node.target):
                (node,) = node.all_input_nodes
            found[node.name] = norm
        return found

    def held_tensors(self) -> dict[str, torch.Tensor]:
        """Returns the program's own tensors, by the placeholder that stands for each."""
        from torch.export.graph_signature import ConstantArgument, InputKind

        program = self.program
        found = {}
        for spec in program.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT or isinstance(spec.arg, ConstantArgument):
                continue
            target = spec.target or ""
            held = program.state_dict if target in program.state_dict else program.constants
            found[spec.arg.name] = held[target]
        return found

    def _arguments(self, inputs: Case) -> list[object]:
        import torch
        from torch.export.graph_signature import ConstantArgument

        held, own = self.held_tensors(), self.fed(inputs)
        values: list[object] = []
        for spec in self.program.graph_signature.input_specs:
            if isinstance(spec.arg, ConstantArgument):
                values.append(spec.arg.value)
            elif spec.arg.name in held:
                values.append(held[spec.arg.name])
            else:
                values.append(torch.from_numpy(np.ascontiguousarray(own[spec.arg.name])))
        return values


def joins_of(program: ExportedProgram) -> frozenset[str]:
    """Returns the names of a program's additions, subtractions and concatenations."""
    return frozenset(
        node.name
        for node in program.graph.nodes
        if node.op == "call_function" and str(node.target).startswith(_JOINS)
    )


def values_of(program: ExportedProgram) -> frozenset[str]:
    """Returns the names of what a program's operators compute."""
    nodes = program.graph.nodes
    return frozenset(node.name for node in nodes if node.op == "call_function")


def _rows(branch: Any, runs: NDArray[np.bool_], axis: int = 0) -> Any:
    """Returns a tensor with zeros in the rows that do not run, or their channels."""
    import torch

    mask = torch.from_numpy(runs).reshape(mask_shape(runs.shape, branch.ndim, axis))
    return torch.where(mask, branch, torch.zeros((), dtype=branch.dtype))


def _without_channels(result: Any, narrowed: Narrowed) -> Any:
    """Returns a tensor with the channels zero that do not stay."""
    import torch

    kept = torch.from_numpy(narrowed.beside(result.ndim))
    return torch.where(kept, result, torch.zeros((), dtype=result.dtype))


def set_statistics(node: torch.fx.Node, operands: list[Any], norm: NormStatistics) -> None:
    """Puts mean and variance into the operands of a batch norm of the program."""
    import torch

    schema = node.target._schema.arguments  # type: ignore[union-attr]
    places = {argument.name: place for place, argument in enumerate(schema)}
    mean, variance = places["running_mean"], places["running_var"]
    epsilon = float(operands[places["eps"]])
    for place, array in ((mean, norm.mean), (variance, norm.plain_variance(epsilon))):
        operands[place] = torch.tensor(array, dtype=operands[place].dtype)


def _needed(graph: torch.fx.Graph, zeros: Mapping[str, set[int]]) -> set[torch.fx.Node]:
    """Returns the nodes that the outputs need once these operands are zero.

    Those of a concatenation are: their sizes are asked for.
    """
    needed: set[torch.fx.Node] = set()
    pending = [node for node in graph.nodes if node.op == "output"]
    while pending:
        node = pending.pop()
        if node in needed:
            continue
        needed.add(node)
        added = node.name in zeros and isinstance(node.args[0], type(node))
        cut = [node.args[operand] for operand in zeros[node.name]] if added else []
        pending += [value for value in node.all_input_nodes if value not in cut]
    return needed


def _to_numpy(value: object) -> NDArray[Any]:
    import torch

    assert isinstance(value, torch.Tensor)
    array: NDArray[Any] = value.detach().cpu().numpy()
    return array

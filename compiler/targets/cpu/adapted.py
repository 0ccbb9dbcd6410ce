"""One session for configurations whose norms are adapted to what they skip.

Folded norms leave vectors and scalars behind that differ: biases, and what branches are
multiplied by. In the one graph they are a row of a table, which an input chooses. ONNX Runtime
optimises a graph in which each of them is a number of its own, by which it is found again
afterwards; kernels are the same in all configurations and stay as they are packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.targets.cpu.optimized import UnsuitedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

STATISTICS = "skipc.statistics"
"""The further input: the row of the table, the number of a configuration."""


class _Slot(NamedTuple):
    """An operand that differs between configurations: a node, by its output, and a place."""

    node: str
    place: int


@dataclass(frozen=True, slots=True)
class Adapted:
    """A full graph with numbers that stand for those of the configurations.

    Attributes:
        graph: The graph; it reads the weights of the full one.
        standing: What stands in it, each unlike all others.
        rows: By graph of the bundle, what it has in their places.
    """

    graph: Path
    standing: Sequence[Floats]
    rows: Mapping[str, Sequence[Floats]]

    @property
    def numbers(self) -> dict[str, int]:
        """The row of each graph; graphs with the same numbers share one."""
        found: dict[bytes, int] = {}
        return {
            name: found.setdefault(b"".join(each.tobytes() for each in row), len(found))
            for name, row in self.rows.items()
        }

    def chosen_in(self, path: Path, data: Path) -> None:
        """Lets an optimised graph take the numbers from a table, in place.

        Raises:
            UnsuitedError: ONNX Runtime has made something else of them.
        """
        model = onnx.load(str(path), load_external_data=False)
        graph = model.graph
        found = dict(_found(graph.initializer, data, self.standing))
        missing = set(range(len(self.standing))) - {number for number, _ in found.values()}
        if missing:
            raise UnsuitedError(
                f"ONNX Runtime folds {len(missing)} of the {len(self.standing)} numbers that"
                " norms adapt into its kernels"
            )
        table = [
            np.concatenate([_padded(row[number], size) for number, size in found.values()])
            for row in self._distinct()
        ]
        weights = {
            f"{STATISTICS}.table": np.stack(table),
            f"{STATISTICS}.sizes": np.array([size for _, size in found.values()], np.int64),
        }
        one, row = f"{STATISTICS}.one", f"{STATISTICS}.row"
        nodes = [
            helper.make_node("Squeeze", [STATISTICS], [one]),
            helper.make_node("Gather", [f"{STATISTICS}.table", one], [row], axis=0),
            helper.make_node("Split", [row, f"{STATISTICS}.sizes"], [*found], axis=0),
        ]
        left = [tensor for tensor in graph.initializer if tensor.name not in found]
        left += [numpy_helper.from_array(array, name) for name, array in weights.items()]
        nodes += graph.node
        graph.ClearField("initializer")
        graph.ClearField("node")
        graph.initializer.extend(left)
        graph.node.extend(nodes)
        graph.input.append(helper.make_tensor_value_info(STATISTICS, TensorProto.INT64, [1]))
        path.write_bytes(model.SerializeToString())

    def _distinct(self) -> list[Sequence[Floats]]:
        rows = {number: self.rows[name] for name, number in self.numbers.items()}
        return [rows[number] for number in range(len(rows))]


def adapted(full: str, graphs: Mapping[str, Path], folder: Path) -> Adapted:
    """Returns the full graph with numbers that stand for what norms adapt.

    Args:
        full: The graph that skips nothing; its row is the first.
        graphs: By name, the bundle's graphs.
        folder: Where to write.

    Raises:
        UnsuitedError: They differ in kernels, or in their operators.
    """
    import onnx_ir as ir

    models = {name: ir.load(path) for name, path in graphs.items()}
    whole = models[full]
    factors = {name: dict(_factors(name, model, whole)) for name, model in models.items()}
    nodes = _nodes(whole)
    slots: dict[_Slot, None] = {}
    for name, model in models.items():
        for node in _nodes(model).values():
            slots |= dict.fromkeys(_differing(name, node, nodes))
    scaled = dict.fromkeys(slot for each in factors.values() for slot in each)
    rows = {
        name: [
            *(_vector(_nodes(model).get(slot.node, nodes[slot.node]), slot) for slot in slots),
            *(factors[name].get(slot, np.ones(1, np.float32)) for slot in scaled),
        ]
        for name, model in sorted(models.items(), key=lambda item: item[0] != full)
    }
    random = np.random.default_rng(0)
    standing = [random.uniform(0.5, 1.5, each.shape).astype(np.float32) for each in rows[full]]
    for slot, array in zip((*slots, *scaled), standing, strict=True):
        _stand(nodes[slot.node], slot, array, scale=slot in scaled)
    path = folder / "adapted.onnx"
    ir.save(whole, path)
    return Adapted(path, standing, rows)


def _nodes(model: ir.Model) -> dict[str, ir.Node]:
    return {str(node.outputs[0].name): node for node in model.graph}


def _factors(name: str, model: ir.Model, whole: ir.Model) -> Iterator[tuple[_Slot, Floats]]:
    """Yields what a graph multiplies operands by that the full one does not."""
    known = _nodes(whole)
    for node in model.graph:
        if str(node.outputs[0].name) in known:
            continue
        users = list(node.outputs[0].uses())
        factor = _constant(node, 1) if node.op_type == "Mul" else None
        if factor is None or factor.size != 1 or len(users) != 1:
            raise UnsuitedError(f"the graph {name!r} is not the full one without some units")
        user, place = users[0]
        yield _Slot(str(user.outputs[0].name), place), factor.astype(np.float32).reshape(1)


def _differing(name: str, node: ir.Node, known: Mapping[str, ir.Node]) -> Iterator[_Slot]:
    """Yields the constants of a node that are others in the full graph."""
    output = str(node.outputs[0].name)
    for place in range(len(node.inputs)):
        mine = _constant(node, place)
        theirs = _constant(known[output], place) if output in known else None
        if mine is None or theirs is None or np.array_equal(mine, theirs):
            continue
        if mine.ndim != 1 or mine.shape != theirs.shape or mine.dtype != np.float32:
            raise UnsuitedError(
                f"the graph {name!r} is not the full one without some units: the weights of"
                f" {output!r} differ, or the scales that int8 was calibrated with, which"
                " `skipc build --engines one` lets be the same where norms are"
            )
        yield _Slot(output, place)


def _constant(node: ir.Node, place: int) -> NDArray[np.generic] | None:
    value = node.inputs[place] if place < len(node.inputs) else None
    tensor = None if value is None else value.const_value
    return None if tensor is None else tensor.numpy()


def _vector(node: ir.Node, slot: _Slot) -> Floats:
    array = _constant(node, slot.place)
    assert array is not None
    return array.astype(np.float32)


def _stand(node: ir.Node, slot: _Slot, array: Floats, scale: bool) -> None:
    """Lets an operand be these numbers, or be multiplied by them."""
    import onnx_ir as ir

    graph, name = node.graph, f"{slot.node}.{slot.place}.standing"
    assert isinstance(graph, ir.Graph)
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    if not scale:
        node.replace_input_with(slot.place, value)
        return
    data = node.inputs[slot.place]
    assert data is not None
    product = ir.node("Mul", [data, value])
    product.outputs[0].name = f"{name}.product"
    product.outputs[0].type, product.outputs[0].shape = data.type, data.shape
    graph.insert_before(node, product)
    node.replace_input_with(slot.place, product.outputs[0])


def _found(
    tensors: Sequence[TensorProto], data: Path, standing: Sequence[Floats]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields which tensors stand for something: its number, and how long it is padded."""
    blob = np.memmap(data, np.uint8, "r") if data.exists() else np.zeros(0, np.uint8)
    by_start = {float(array[0]): number for number, array in enumerate(standing)}
    for tensor in tensors:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) > 1:
            continue
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            start, size = int(entries.get("offset", "0")), int(entries["length"])
            array = blob[start : start + size].view(np.float32)
        else:
            array = numpy_helper.to_array(tensor).reshape(-1)
        number = by_start.get(float(array[0])) if array.size else None
        if number is not None and np.array_equal(_padded(standing[number], len(array)), array):
            yield tensor.name, (number, len(array))


def _padded(array: Floats, size: int) -> Floats:
    """Returns the numbers with zeros behind them, as blocked layouts have them."""
    return np.concatenate([array[:size], np.zeros(max(size - len(array), 0), np.float32)])

"""What of a bundle lies in the memory that makes errors, and what its errors make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import TolerateError
from skipc.compiler.tolerate.error_model import EXPOSED_TYPES, MOST_RATE
from skipc.compiler.tolerate.patterns import (
    Events,
    correct,
    drawn,
    key_of,
    moment_of,
    with_errors,
)
from skipc.runtime.bundle.onnx_graph import external_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.tolerate.error_model import ErrorModel, Key
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry

    Array = NDArray[Any]
    Rates = Mapping[str, float]

_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 10: "float16"}
"""ONNX's number of each type that is exposed."""
assert set(_TYPES.values()) == set(EXPOSED_TYPES)


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeight:
    """A tensor of ``weights.bin``.

    Attributes:
        name: Of the initializer; with a number where several tensors are called so.
        array: As it is stored, intact.
        offset_bytes: Where it begins.
        low: Its smallest value.
        high: Its largest value.
        users: The configurations that read it.
    """

    name: str
    array: Array
    offset_bytes: int
    low: float
    high: float
    users: frozenset[str]

    @property
    def size_bytes(self) -> int:
        """Its bytes."""
        return self.array.nbytes

    @property
    def dtype(self) -> str:
        """What its values are."""
        return str(self.array.dtype)


class Memory:
    """The stored tensors of some configurations, and how their bits fail.

    Args:
        bundle: The bundle.
        entries: The configurations; tensors that none of them reads are left out.
        model: The errors.
        correct: Whether values outside a tensor's range become zero.

    Raises:
        TolerateError: They read no weights from the store.
        IntegrityError: ``weights.bin`` or a graph is not what the manifest describes.
    """

    def __init__(
        self,
        bundle: Bundle,
        entries: Sequence[ConfigurationEntry],
        model: ErrorModel,
        correct: bool = False,
    ) -> None:
        self.model, self.correct = model, correct
        self.weights, self.names = _stored(bundle, entries)
        if not self.weights:
            raise TolerateError(
                f"{bundle.path}: no configuration reads {', '.join(EXPOSED_TYPES)} from"
                f" {bundle.manifest.weights_file}: there is nothing that errors could hit."
            )
        self.bits = sum(8 * one.size_bytes for one in self.weights)
        self._end_bytes = bundle.file(bundle.manifest.weights_file).stat().st_size

    def key(self, *numbers: int) -> Key:
        """Returns the key of a pattern: that of the model's one memory, where it is of one."""
        return key_of(*(numbers if self.model.chip is None else (self.model.chip,)))

    def damaged(self, key: Key, rates: Rates) -> dict[str, Array]:
        """Returns the tensors that errors have changed, by name.

        Args:
            key: Of the pattern; see ``key``.
            rates: By tensor, the rate of errors where it lies; 0 where none is named.
        """
        found = {}
        for one in self.weights:
            rate = rates.get(one.name, 0.0)
            if not rate:
                continue
            at_bytes = one.offset_bytes
            events = self._failing(key, at_bytes, at_bytes, one.array, one.array.nbytes, rate)
            if len(events.bits):
                found[one.name] = self._made(one.array, events, one.low, one.high)
        return found

    def handed_over(
        self, key: Key, stream: int, array: Array, rate: float, low: float, high: float
    ) -> Array:
        """Returns a tensor that was handed over, (rows, ...), with errors.

        Rows are handed over one after the other, at the same place behind the weights: so in
        one memory the same bits fail in each, and otherwise others.

        Args:
            key: Of the pattern.
            stream: A number of the tensor's own, from 0.
            array: The tensor.
            rate: The rate of errors where it lies.
            low: Its smallest value on intact data, for correction.
            high: Its largest.
        """
        row_bytes, one_memory = array.nbytes // len(array), self.model.chip is not None
        size_bytes = row_bytes if one_memory else array.nbytes
        end_bytes = self._end_bytes
        events = self._failing(key, end_bytes + stream, end_bytes, array, size_bytes, rate)
        if one_memory:
            starts = np.arange(len(array))[:, None] * 8 * row_bytes
            ones = np.tile(events.ones, len(array))
            events = Events((starts + events.bits).reshape(-1), events.times, ones)
        return self._made(array, events, low, high)

    def _failing(
        self,
        key: Key,
        stream: int,
        begins_bytes: int,
        array: Array,
        size_bytes: int,
        rate: float,
    ) -> Events:
        """Returns the bits of a tensor that fail at a rate."""
        model = self.model
        events = drawn(key, stream, 8 * size_bytes, min(rate * model.most_factor, MOST_RATE))
        if model.is_uniform:
            return events
        addresses = events.bits + 8 * begins_bytes
        factors = model.factors(str(array.dtype), events.bits, addresses, key)
        fails = events.times <= moment_of(np.minimum(rate * factors, MOST_RATE))
        return events.some(fails)

    def _made(self, array: Array, events: Events, low: float, high: float) -> Array:
        """Returns a copy of a tensor with errors, corrected where that is asked for."""
        stuck = self.model.effect == "stuck"
        made = with_errors(array, events.bits, events.ones if stuck else None)
        if self.correct:
            correct(made, events.bits, low, high)
        return made


def _stored(
    bundle: Bundle, entries: Sequence[ConfigurationEntry]
) -> tuple[tuple[StoredWeight, ...], dict[tuple[str, str], str]]:
    """Returns the tensors, and by graph file and initializer the name of each."""
    manifest = bundle.manifest
    store = np.memmap(bundle.file(manifest.weights_file), np.uint8, "r")
    places: dict[int, tuple[str, str, tuple[int, ...]]] = {}
    users: dict[int, set[str]] = {}
    readers: dict[tuple[str, str], int] = {}
    for entry in entries:
        for graph in manifest.graphs_of(entry):
            for tensor in external_tensors(bundle.graph_file(graph)):
                if tensor.data_type not in _TYPES:
                    continue
                if tensor.offset_bytes + tensor.size_bytes > len(store):
                    raise TolerateError(
                        f"{graph.file}: {tensor.name!r} ends behind {manifest.weights_file}."
                        " Copy the bundle again."
                    )
                known = (tensor.name, _TYPES[tensor.data_type], tensor.shape)
                places.setdefault(tensor.offset_bytes, known)
                users.setdefault(tensor.offset_bytes, set()).add(entry.name)
                readers[graph.file, tensor.name] = tensor.offset_bytes
    names = _distinct({at: name for at, (name, _, _) in places.items()})
    found = []
    for at in sorted(places):
        _, dtype, shape = places[at]
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        array = np.array(store[at : at + count]).view(dtype).reshape(shape)
        low, high = float(array.min()), float(array.max())
        found.append(StoredWeight(names[at], array, at, low, high, frozenset(users[at])))
    return tuple(found), {reader: names[at] for reader, at in readers.items()}


def _distinct(names: Mapping[int, str]) -> dict[int, str]:
    """Returns names of which no two are the same: further ones get a number."""
    counts: dict[str, int] = {}
    found = {}
    for at in sorted(names):
        counts[names[at]] = counts.get(names[at], 0) + 1
        more = f" ({counts[names[at]]})" if counts[names[at]] > 1 else ""
        found[at] = f"{names[at]}{more}"
    return found

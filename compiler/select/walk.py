"""Which values a batch of configurations needs, when, and carrying that out.

A value is told by its name and by what was left out on the way back to the inputs: skipped
units, and channels of groups. Two configurations that agree on those share it. Configurations
in lexicographic order walk the tree of decisions depth first, so what is shared is needed soon
again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.segments import Segments

    Values = list[NDArray[Any]]
    """One array per chunk of rows."""

    Compute = Callable[["Key", tuple[Values, ...]], Values]


NEVER = 1 << 62
_COUNT_BITS = 24
"""So many tell how many channels of a group go."""


@dataclass(frozen=True, slots=True)
class Key:
    """A value under a configuration.

    Attributes:
        name: The cut that computes it (never one that is an alias of its shortcut).
        without: What it depends on that is left out: a bit for each unit, then for each group
            the number of channels that go.
    """

    name: str
    without: int

    def gone(self, group: int, units: int) -> int:
        """Returns how many channels of a group go, where there are so many units."""
        return self.without >> _place(group, units) & (1 << _COUNT_BITS) - 1


def _place(group: int, units: int) -> int:
    """Returns the first bit of a group's number."""
    return units + _COUNT_BITS * group


def ordered(
    wanted: Iterable[Key],
    below: Callable[[Key], Iterable[Key]],
    known: Callable[[Key], bool] = lambda key: False,
) -> list[Key]:
    """Returns the keys that are wanted and those below them, each once and after its own.

    Args:
        wanted: The keys, in the order wanted.
        below: Returns what a key is computed from.
        known: Tells of a key that it is left out, and what only it needs.
    """
    order: dict[Key, None] = {}
    pending = [(key, False) for key in reversed(tuple(wanted))]
    while pending:
        key, ready = pending.pop()
        if key in order or known(key):
            continue
        if ready:
            order[key] = None
        else:
            pending.append((key, True))
            pending += [(one, False) for one in reversed(tuple(below(key)))]
    return list(order)


class Resolver:
    """Finds the keys of one configuration.

    Args:
        segments: The network's pieces.
        genes: The configuration: a value for each unit, other than 0 where it is skipped, and
            for each group how many of its channels go.
    """

    def __init__(self, segments: Segments, genes: Genes) -> None:
        self._segments = segments
        self._genes = genes
        self._found: dict[str, tuple[Key, int]] = {}

    def key(self, cut: str) -> Key:
        """Returns the key of ``cut``: that of its shortcut where its unit is skipped."""
        return self._resolve(cut)[0]

    def inputs(self, key: Key) -> tuple[Key, ...]:
        """Returns what the segment of ``key`` reads; nothing for an input of the network."""
        segment = self._segments.segments.get(key.name)
        return () if segment is None else tuple(self.key(name) for name in segment.inputs)

    def outputs(self) -> tuple[Key, ...]:
        """Returns the keys of the network's outputs."""
        return tuple(self.key(name) for name in self._segments.outputs)

    def reached(self) -> list[Key]:
        """Returns every key that the outputs need, those below it before each."""
        return ordered(self.outputs(), self.inputs)

    def _resolve(self, cut: str) -> tuple[Key, int]:
        """Returns the key and what was left out on the way, the cut's own unit included."""
        found = self._found.get(cut)
        if found is not None:
            return found
        join = self._segments.joins.get(cut)
        segment = self._segments.segments.get(cut)
        if join is not None and self._genes[join.unit]:
            key, without = self._resolve(join.shortcut)
            found = key, without | 1 << join.unit
        elif segment is None:
            found = Key(cut, 0), 0
        else:
            without, units = 0, self._segments.units
            for name in segment.inputs:
                without |= self._resolve(name)[1]
            for group in segment.groups:
                without |= self._genes[units + group] << _place(group, units)
            found = Key(cut, without), without
        self._found[cut] = found
        return found


@dataclass(frozen=True, slots=True)
class Finish:
    """A configuration is done: what it wanted is read."""

    genes: Genes
    wanted: tuple[Key, ...]


@dataclass(frozen=True)
class Plan:
    """What to do for a batch, each value computed once.

    Attributes:
        events: The keys to compute, and where configurations are done, in order.
        inputs: What each key is computed from.
        uses: For each key the numbers of the events that read it.
    """

    events: tuple[Key | Finish, ...]
    inputs: Mapping[Key, tuple[Key, ...]]
    uses: Mapping[Key, tuple[int, ...]]

    def next_use(self, key: Key, now: int) -> int:
        """Returns the number of the next event from ``now`` on that reads ``key``.

        ``NEVER`` where there is none.
        """
        found = self.uses.get(key, ())
        place = bisect_left(found, now)
        return found[place] if place < len(found) else NEVER

    def peak(self, size: Mapping[str, int]) -> int:
        """Returns the largest sum of sizes that is held at once.

        Args:
            size: The size of each cut by its name; those not listed count nothing.
        """
        ending: defaultdict[int, int] = defaultdict(int)
        for key, found in self.uses.items():
            ending[found[-1]] += size.get(key.name, 0)
        held, most = 0, 0
        for number, event in enumerate(self.events):
            if isinstance(event, Key):
                held += size.get(event.name, 0)
            most = max(most, held)
            held -= ending[number]
        return most


def plan(
    segments: Segments, wanted: Mapping[Genes, tuple[Key, ...]], read: bool = True
) -> Plan:
    """Returns the steps that compute what each configuration wants.

    Args:
        segments: The network's pieces.
        wanted: The keys that each configuration wants; it is done in this order.
        read: Whether these are held until their configuration is done.
    """
    events: list[Key | Finish] = []
    inputs: dict[Key, tuple[Key, ...]] = {}
    uses: defaultdict[Key, list[int]] = defaultdict(list)
    for genes, keys in wanted.items():
        resolver = Resolver(segments, genes)
        for key in ordered(
            keys,
            resolver.inputs,
            lambda key: key in inputs or key.name not in segments.segments,
        ):
            inputs[key] = resolver.inputs(key)
            for one in inputs[key]:
                uses[one].append(len(events))
            events.append(key)
        for key in keys if read else ():
            uses[key].append(len(events))
        events.append(Finish(genes, keys if read else ()))
    return Plan(tuple(events), inputs, {key: tuple(found) for key, found in uses.items()})


class Run:
    """Holds each value until its last use, at most ``memory_bytes`` of them.

    Over the cap the value whose next use is furthest away is dropped, and computed again
    when it is wanted. What is being computed comes on top.

    Args:
        plan: What to do.
        given: The network's inputs by name.
        compute: Runs the segment of a key on what it reads.
        memory_bytes: How much to hold.

    Attributes:
        peak_bytes: The most that was held.
    """

    def __init__(
        self, plan: Plan, given: Mapping[str, Values], compute: Compute, memory_bytes: int
    ) -> None:
        self._plan = plan
        self._given = given
        self._compute = compute
        self._memory_bytes = memory_bytes
        self._held: dict[Key, Values] = {}
        self._held_bytes = 0
        self._size_bytes: dict[str, int] = {}
        self._pinned: Counter[Key] = Counter()
        self._now = 0
        self.peak_bytes = 0

    def finished(self) -> Iterator[Finish]:
        """Yields each configuration when what it wants can be read with ``value``."""
        for number, event in enumerate(self._plan.events):
            self._now = number
            if isinstance(event, Finish):
                yield event
            else:
                self.value(event)
            self._now = number + 1
            self._keep_cap()

    def value(self, key: Key) -> Values:
        """Returns a value, computed now if it is not held."""
        if key.name in self._given:
            return self._given[key.name]
        if key not in self._held:
            self._make(key)
        return self._held[key]

    def _make(self, key: Key) -> None:
        """Computes a value and what it needs that is not held, each once."""
        inputs = self._plan.inputs
        order = ordered(
            [key], inputs.__getitem__, lambda one: one in self._held or one.name in self._given
        )
        self._pinned[key] += 1
        for one in order:
            self._pinned.update(inputs[one])
        for one in order:
            self._keep_cap(self._size_bytes.get(one.name, 0))
            values = self._compute(one, tuple(self.value(below) for below in inputs[one]))
            self._pinned.subtract(inputs[one])
            self._hold(one, values)
        self._pinned[key] -= 1

    def _hold(self, key: Key, values: Values) -> None:
        size_bytes = sum(array.nbytes for array in values)
        self._held[key] = values
        self._size_bytes[key.name] = size_bytes
        self._held_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self._held_bytes)
        self._keep_cap()

    def _keep_cap(self, wanted_bytes: int = 0) -> None:
        """Drops what is not read again, and over the cap what is read last."""
        next_use = {
            key: self._plan.next_use(key, self._now)
            for key in self._held
            if not self._pinned[key]
        }
        for key in sorted(next_use, key=lambda key: -next_use[key]):
            over = self._held_bytes + wanted_bytes > self._memory_bytes
            if over or next_use[key] == NEVER:
                del self._held[key]
                self._held_bytes -= self._size_bytes[key.name]

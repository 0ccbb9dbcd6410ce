"""Which values a batch of configurations needs, in which order, and until when.

A value is told by its name and by the skipped units met on the way back to the inputs: two
configurations that agree on those share it. Configurations in lexicographic order walk the
tree of decisions depth first, so what is shared is needed soon again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.segments import Segments

NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Key:
    """A value under a configuration.

    Attributes:
        name: The cut that computes it (never one that is an alias of its shortcut).
        skipped: The skipped units that it depends on, as a bit set.
    """

    name: str
    skipped: int


class Resolver:
    """Finds the keys of one configuration.

    Args:
        segments: The network's pieces.
        genes: The configuration.
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
        """Returns every key that the outputs need, those before it before each."""
        order: dict[Key, None] = {}
        pending = [(key, False) for key in reversed(self.outputs())]
        while pending:
            key, ready = pending.pop()
            if key in order:
                continue
            if ready:
                order[key] = None
            else:
                pending.append((key, True))
                pending += [(one, False) for one in reversed(self.inputs(key))]
        return list(order)

    def _resolve(self, cut: str) -> tuple[Key, int]:
        """Returns the key and the skipped units met, the cut's own unit included."""
        found = self._found.get(cut)
        if found is not None:
            return found
        join = self._segments.joins.get(cut)
        segment = self._segments.segments.get(cut)
        if join is not None and self._genes[join.unit]:
            key, skipped = self._resolve(join.shortcut)
            found = key, skipped | 1 << join.unit
        elif segment is None:
            found = Key(cut, 0), 0
        else:
            skipped = 0
            for name in segment.inputs:
                skipped |= self._resolve(name)[1]
            found = Key(cut, skipped), skipped
        self._found[cut] = found
        return found


@dataclass(frozen=True, slots=True)
class Step:
    """One segment to run: it reads ``inputs``, in the order of the segment's."""

    key: Key
    inputs: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """A configuration is done: what it wanted is read."""

    genes: Genes
    wanted: tuple[Key, ...]


@dataclass(frozen=True)
class Plan:
    """What to do for a batch, each value computed once.

    Attributes:
        events: The steps, and where configurations are done, in order.
        inputs: What each key is computed from.
        uses: For each key the numbers of the events that read it.
    """

    events: tuple[Step | Finish, ...]
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
            if isinstance(event, Step):
                held += size.get(event.key.name, 0)
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
    events: list[Step | Finish] = []
    inputs: dict[Key, tuple[Key, ...]] = {}
    uses: defaultdict[Key, list[int]] = defaultdict(list)
    for genes, keys in wanted.items():
        resolver = Resolver(segments, genes)
        pending = [(key, False) for key in reversed(keys)]
        while pending:
            key, ready = pending.pop()
            if key in inputs or key.name not in segments.segments:
                continue
            below = resolver.inputs(key)
            if ready:
                for one in below:
                    uses[one].append(len(events))
                inputs[key] = below
                events.append(Step(key, below))
            else:
                pending.append((key, True))
                pending += [(one, False) for one in reversed(below)]
        for key in keys if read else ():
            uses[key].append(len(events))
        events.append(Finish(genes, keys if read else ()))
    return Plan(tuple(events), inputs, {key: tuple(found) for key, found in uses.items()})

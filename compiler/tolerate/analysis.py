"""How many errors the configurations of a bundle stand, top to bottom.

Coarse, all tensors alike; then each tensor by itself, or in one of the memory's partitions.
What is chosen on one part of the data is certified on a second and reported on a third.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import TolerateError
from skipc.compiler.policy.bound import samples_needed, upper_limit
from skipc.compiler.tolerate.error_model import MOST_RATE
from skipc.compiler.tolerate.fine import (
    Level,
    Placed,
    after,
    most_moves,
    moves,
    sensitivities,
)
from skipc.compiler.tolerate.memory import Memory
from skipc.compiler.tolerate.routes import InjectedRoute
from skipc.compiler.tolerate.trials import (
    Trials,
    largest_rate,
    last_certified,
    most_failures,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.compiler.select.problem import Notes
    from skipc.compiler.select.samples import Samples
    from skipc.compiler.tolerate.error_model import ErrorModel
    from skipc.compiler.tolerate.memory import Rates
    from skipc.compiler.tolerate.partitions import Partition
    from skipc.compiler.tolerate.trials import Reported
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry

_STEPS = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""The rates that are certified one after the other, over the one that was chosen."""
_MOVES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The same of the moves from one memory to another."""
_FINER, _LEVELS = 4.0, 7
"""Rates of single tensors: from a quarter of the coarse rate, each so much above the last."""
_BEYOND = 4.0
"""Moves are listed until their losses, taken one by one, add up to so many times the bound."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be found.

    Attributes:
        model: The errors.
        max_drop: The largest share of the samples that may be lost.
        confidence: How sure that must be.
        correct: Whether implausible values become zero.
        seed: Of the patterns of errors.
        partitions: Normal memory and the partitions; empty where there are none.
    """

    model: ErrorModel
    max_drop: float
    confidence: float
    correct: bool = False
    seed: int = 0
    partitions: tuple[Partition, ...] = ()


@dataclass(frozen=True, slots=True)
class Coarse:
    """What a configuration stands where all its tensors have the same rate.

    Attributes:
        configuration: Its name.
        rate: The largest that loses no more than it may on the part for choosing.
        uncorrected: The same without correction; None where nothing is corrected.
        certified: The largest that is certified; 0 where none is.
        failures: The samples that it loses of ``samples``.
        samples: Of the part for the bound.
        reported: Accuracies at the certified rate, or at the other where there is none.
    """

    configuration: str
    rate: float
    uncorrected: float | None
    certified: float
    failures: int
    samples: int
    reported: Reported


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor may lie.

    Attributes:
        name: Its name.
        dtype: Of its values.
        size_bytes: What it takes; of one sample where it is handed over.
        low: Its smallest value.
        high: Its largest value.
        users: The configurations that read it.
        place: The partition; empty where there are none.
        rate: The rate of errors there.
    """

    name: str
    dtype: str
    size_bytes: int
    low: float
    high: float
    users: tuple[str, ...]
    place: str
    rate: float


@dataclass(frozen=True, slots=True)
class Saved:
    """What reading a configuration's tensors once takes, over normal memory.

    Attributes:
        energy: Of the model.
        latency: Of the model.
    """

    energy: float
    latency: float


@dataclass(frozen=True, slots=True)
class Fine:
    """What is stood where each tensor has a rate of its own, by all configurations.

    Attributes:
        tensors: All of them, as they are certified; as chosen where nothing is.
        certified: Whether the bound is certified for it.
        failures: Samples of the calibration part that are lost, by configuration.
        mean_rate: Geometric mean over bytes.
        coarse: The partition for all tensors that loses no more than it may, if any is one.
        saved: By configuration, with each tensor where it lies.
        coarse_saved: By configuration, with all in ``coarse``.
    """

    tensors: tuple[Tensor, ...]
    certified: bool
    failures: Mapping[str, int]
    mean_rate: float
    coarse: str
    saved: Mapping[str, Saved]
    coarse_saved: Mapping[str, Saved]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """All that was found."""

    coarse: tuple[Coarse, ...]
    fine: Fine


def check_certifiable(asked: Asked, samples: int) -> None:
    """Refuses, before the work, what so few samples cannot certify.

    Raises:
        TolerateError: Not even a sample part of which none is lost would do.
    """
    if most_failures(samples, asked.max_drop, asked.confidence) >= 0:
        return
    needed = samples_needed(0.0, asked.max_drop, asked.confidence)
    least = ceil(1e4 * upper_limit(0, samples, asked.confidence)) / 100
    raise TolerateError(
        f"{samples} samples for the bound cannot certify --max-drop"
        f" {100 * asked.max_drop:g} with --sure {asked.confidence:g}, even if none is lost:"
        f" {needed} could. Give more data, or --max-drop {least:g}."
    )


def tolerance_of(
    bundle: Bundle,
    entries: Sequence[ConfigurationEntry],
    parts: Sequence[Samples],
    asked: Asked,
    notes: Notes,
) -> Tolerance:
    """Returns how many errors some configurations of a bundle stand.

    Args:
        bundle: The bundle; nothing is written into it.
        entries: The configurations.
        parts: The data: for choosing, for the bound, for the report; targets are classes.
        asked: What is to be found.
        notes: Told what is being done.

    Raises:
        TolerateError: There is too little data, or the graphs cannot be run so.
        IntegrityError: A file of the bundle has another hash than its manifest says.
    """
    check_certifiable(asked, len(parts[1]))
    _check_intact(bundle, entries)
    notes("loading the graphs")
    memory = Memory(bundle, entries, asked.model, asked.correct)
    trials = [trials_of(bundle, entry, parts, asked, memory) for entry in entries]
    coarse = []
    for entry, one in zip(entries, trials, strict=True):
        notes(f"looking for the rate that {entry.name} stands")
        uncorrected = None
        if asked.correct:
            plain = Memory(bundle, [entry], asked.model)
            bare = trials_of(bundle, entry, parts, asked, plain)
            uncorrected = _largest(bare, plain, asked)
        coarse.append(_coarse(one, memory, asked, uncorrected))
    notes("measuring every tensor alone")
    return Tolerance(tuple(coarse), _fine(trials, memory, asked, coarse, notes.advance))


def _check_intact(bundle: Bundle, entries: Sequence[ConfigurationEntry]) -> None:
    graphs = [graph.file for entry in entries for graph in bundle.manifest.graphs_of(entry)]
    for file in dict.fromkeys((bundle.manifest.weights_file, *graphs)):
        bundle.verify_file(file)


def trials_of(
    bundle: Bundle,
    entry: ConfigurationEntry,
    parts: Sequence[Samples],
    asked: Asked,
    memory: Memory,
) -> Trials:
    """Returns a configuration on the parts of the data; see ``tolerance_of``."""
    route = InjectedRoute(bundle, entry, memory, parts[0])
    made = [route.part(samples) for samples in parts]
    threads, only_one = os.cpu_count() or 1, asked.model.chip is not None
    return Trials(route, made, asked.seed, threads, only_one)


def alike(one: Trials, memory: Memory, rate: float) -> Rates:
    """Returns the same rate for everything that a configuration reads."""
    name = one.route.name
    weights = {each.name: rate for each in memory.weights if name in each.users}
    return weights | {each.name: rate for each in one.route.handed_over}


def _largest(one: Trials, memory: Memory, asked: Asked) -> float:
    def loses(rate: float) -> float:
        return one.loses(alike(one, memory, rate))

    return largest_rate(loses, asked.max_drop, memory.bits)


def _coarse(one: Trials, memory: Memory, asked: Asked, uncorrected: float | None) -> Coarse:
    rate = _largest(one, memory, asked)
    rates = [rate * step for step in _STEPS] if rate else []
    sequence = [alike(one, memory, each) for each in rates]
    found = last_certified([one], sequence, asked.max_drop, asked.confidence)
    certified = 0.0 if found.last is None else rates[found.last]
    reported = one.reported(alike(one, memory, certified or rate))
    failures = found.failures[0] if found.failures else 0
    return Coarse(
        *(one.route.name, rate, uncorrected, certified, failures, one.samples, reported)
    )


def _fine(
    trials: Sequence[Trials],
    memory: Memory,
    asked: Asked,
    coarse: Sequence[Coarse],
    advance: Callable[[int, int], None],
) -> Fine:
    tensors = [Placed(each.name, each.size_bytes, each.users) for each in memory.weights]
    for one in trials:
        tensors += [
            Placed(each.name, each.row_bytes, frozenset({one.route.name}))
            for each in one.route.handed_over
        ]
    least = min(each.rate for each in coarse)
    if asked.partitions:
        levels = [Level(p.rate, 1 - p.energy, p.capacity_bytes) for p in asked.partitions]
    else:
        rates = [least / _FINER * _FINER**number for number in range(_LEVELS)]
        kept = list(dict.fromkeys(min(rate, MOST_RATE) for rate in rates))
        levels = [Level(rate, float(number)) for number, rate in enumerate(kept)]
    most = asked.max_drop
    losses = sensitivities(trials, tensors, levels, least / _FINER, most, advance)
    sequence = moves(tensors, levels, losses, _BEYOND * most)

    def rates_after(count: int) -> Rates:
        places = after(tensors, sequence[:count])
        return {name: levels[number].rate for name, number in places.items()}

    def loses(count: int) -> float:
        return max(one.loses(rates_after(count)) for one in trials)

    count = most_moves(loses, len(sequence), most)
    counts = list(dict.fromkeys(round(share * count) for share in _MOVES))
    found = last_certified(
        trials, [rates_after(each) for each in counts], most, asked.confidence
    )
    made = count if found.last is None else counts[found.last]
    places = after(tensors, sequence[:made])
    failures = dict(zip((one.route.name for one in trials), found.failures, strict=False))
    alone = _one_for_all(trials, memory, asked)
    return Fine(
        tensors=_told(trials, memory, asked, places, levels),
        certified=found.last is not None,
        failures=failures,
        mean_rate=_mean_rate(tensors, places, levels),
        coarse=alone.name if alone else "",
        saved=_saved(trials, tensors, asked, places),
        coarse_saved=_saved(
            trials,
            tensors,
            asked,
            dict.fromkeys(places, asked.partitions.index(alone) if alone else 0),
        ),
    )


def _one_for_all(trials: Sequence[Trials], memory: Memory, asked: Asked) -> Partition | None:
    """Returns the partition that saves most of those that can hold all tensors."""
    total_bytes = sum(each.size_bytes for each in memory.weights)
    for partition in sorted(asked.partitions, key=lambda each: each.energy):
        room = partition.capacity_bytes
        if room is not None and room < total_bytes:
            continue
        if all(
            one.loses(alike(one, memory, partition.rate)) <= asked.max_drop for one in trials
        ):
            return partition
    return None


def _told(
    trials: Sequence[Trials],
    memory: Memory,
    asked: Asked,
    places: Mapping[str, int],
    levels: Sequence[Level],
) -> tuple[Tensor, ...]:
    def at(name: str) -> tuple[str, float]:
        number = places[name]
        named = asked.partitions[number].name if asked.partitions else ""
        return named, levels[number].rate

    stored = [
        Tensor(
            *(each.name, each.dtype, each.size_bytes, each.low, each.high),
            *(tuple(sorted(each.users)), *at(each.name)),
        )
        for each in memory.weights
    ]
    handed = [
        Tensor(
            *(each.name, each.dtype, each.row_bytes, each.low, each.high),
            *((one.route.name,), *at(each.name)),
        )
        for one in trials
        for each in one.route.handed_over
    ]
    return (*stored, *handed)


def _mean_rate(
    tensors: Sequence[Placed], places: Mapping[str, int], levels: Sequence[Level]
) -> float:
    """Returns the geometric mean over bytes; 0 where some lie in memory without errors."""
    sizes = np.array([tensor.size_bytes for tensor in tensors], float)
    rates = np.array([levels[places[tensor.name]].rate for tensor in tensors])
    if not rates.all():
        return 0.0
    return float(np.exp((sizes * np.log(rates)).sum() / sizes.sum()))


def _saved(
    trials: Sequence[Trials],
    tensors: Sequence[Placed],
    asked: Asked,
    places: Mapping[str, int],
) -> dict[str, Saved]:
    """Returns what reading each configuration's tensors once takes, over normal memory."""
    if not asked.partitions:
        return {}
    found = {}
    for one in trials:
        own = [tensor for tensor in tensors if one.route.name in tensor.users]
        total = sum(tensor.size_bytes for tensor in own)
        at = [asked.partitions[places[tensor.name]] for tensor in own]
        pairs = list(zip(own, at, strict=True))
        energy = sum(tensor.size_bytes * where.energy for tensor, where in pairs) / total
        latency = sum(tensor.size_bytes * where.latency for tensor, where in pairs) / total
        found[one.route.name] = Saved(energy, latency)
    return found

"""A configuration of several stages: feeds, runs, answers, tests.

The rows of a batch leave one by one: each is a call of its own, since on a CPU a batch costs
what its rows cost, and what is put together again for the rest would only be copied. Behind a
router that is a route's first stage, rows that were sent to the same stage go on together.
All rows pass a stage before one goes on to the next, so that whoever runs out of time has an
answer for each. Where a batch cannot be taken apart (its size is fixed, or may not be 1), it
stays together and stops when no row of it wants to go on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np

from ..bundle.gates import DECISIONS
from ..bundle.route import source_of
from ..bundle.tensors import batch_in, row_axes
from ..errors import InputError
from .tests import goes_to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..backends import Arrays, Engine, Outputs, Run
    from ..bundle.route import Stage, Test
    from ..bundle.tensors import Dimension, TensorSpec
    from ..load.gated import Gated
    from ..load.opening import Family
    from ..load.residency import Residency

    Feeds = tuple[tuple[str, int | None, str], ...]


class Reached(NamedTuple):
    """What a chain answered: the family's outputs, and the last stage that a row reached.

    Where a deadline stopped rows ``stage`` is the first at which it did. ``alike`` tells
    whether every row stopped there, and ran all stages before: else the time says nothing
    about a stage.
    ``stopped_by`` is ``deadline`` where that stopped a row, or kept a router from sending it
    where it would have, else ``test`` where a row was answered before the route's ``end``.
    ``route`` is the graph that answered each row, or all of them together. ``units`` says of
    each unit that gates decided about for which share of the rows it ran; ``work`` is what
    that was, over the most that gates let run.
    """

    outputs: Outputs
    stage: int
    alike: bool
    stopped_by: str
    route: tuple[str, ...]
    units: Mapping[str, float]
    work: float = 1.0


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage, ready to run.

    ``feeds`` are the inputs that come from a stage, or from the call itself (None), and their
    names there; ``constants`` have a fixed value. ``answers`` are the graph's outputs by the
    family's names, empty if it never answers. ``ahead`` begins to load the next stage, where
    it may not be there. ``tested`` is the output of the family that the test compares with
    the answer before; empty if it does not. ``rows`` is the dimension of the rows in what its
    graph gives; ``detours`` are the stages that its test leads to by a shorter way. ``gates``
    is what those of its graph decide about.
    """

    graph: str
    run: Run
    feeds: Feeds
    constants: Arrays
    answers: Mapping[str, str]
    test: Test | None
    ahead: Callable[[], object] | None
    tested: str
    rows: Mapping[str, int]
    detours: frozenset[int]
    gates: Gated | None


@dataclass(slots=True, eq=False)
class _Rows:
    """Rows on their way together.

    ``places`` are theirs in the batch. ``at`` is the stage that runs next, past the last one
    when they are answered; ``reached`` the one that ran last. ``found`` are the outputs of
    those that ran, ``answer`` is that of ``answered``.
    """

    inputs: Arrays
    places: Sequence[int] = (0,)
    at: int = 0
    reached: int = 0
    found: dict[int, Outputs] = field(default_factory=dict)
    answer: Outputs = field(default_factory=dict)
    answered: str = ""

    def pass_stage(self, number: int, step: _Step) -> None:
        if step.ahead is not None:
            step.ahead()
        found = self.found
        arrays = dict(step.constants)
        for name, stage, source in step.feeds:
            arrays[name] = self.inputs[source] if stage is None else found[stage][source]
        outputs = found[number] = step.run(arrays)
        self.reached = number
        if step.answers:
            self.answer = {name: outputs[own] for name, own in step.answers.items()}
            self.answered = step.graph


@final
class Chain:
    """Runs the stages of one configuration. May be called from several threads at once.

    ``inputs``, ``outputs`` and ``batch`` are the family's, ``now_ns`` is the clock.
    """

    def __init__(
        self,
        steps: Sequence[_Step],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batch: Dimension | None,
        now_ns: Callable[[], int],
    ) -> None:
        self._steps = tuple(steps)
        self._now_ns = now_ns
        apart = batch is not None and batch.minimum == 1 and len(steps) > 1
        self._row_axes = row_axes(inputs) if apart else {}
        first = self._steps[0].test
        self._routes = first is not None and bool(first.stages)
        self._answer_axes = row_axes(outputs)

    def run(
        self,
        inputs: Arrays,
        until_ns: int | None = None,
        upto_ms: Sequence[float] = (),
        bias: float | None = None,
    ) -> Reached:
        """Returns the answer, and the stage that it is from.

        Args:
            inputs: The family's inputs, already checked.
            until_ns: The clock's time at which the answer must be there: a stage that is
                predicted to end later is not begun, once there is an answer, and a router
                names none. None for no limit.
            upto_ms: What the route is predicted to take up to the end of each stage; needed
                with ``until_ns``.
            bias: Of a router, instead of its own.

        Raises:
            InputError: An array lies on a GPU, where no test can look.
            EngineError: A stage failed.
        """
        for name, array in inputs.items():
            if not isinstance(array, np.ndarray):
                raise InputError(
                    f"input {name!r} lies on the GPU, where the tests of this configuration's"
                    " stages cannot look. Give it a numpy array: .cpu().numpy() of a tensor."
                )
        parts = self._begun(inputs)
        late, jumped = len(self._steps), False
        for number, step in enumerate(self._steps):
            for rows in [rows for rows in parts if rows.at == number]:
                if until_ns is not None and rows.answer:
                    stage_ms = upto_ms[number] - upto_ms[rows.reached]
                    if self._now_ns() + stage_ms * 1e6 > until_ns:
                        rows.at, late = len(self._steps), min(late, rows.reached)
                        continue
                before = rows.answer.get(step.tested) if step.tested else None
                rows.pass_stage(number, step)
                rows.at = len(self._steps)
                if step.test is None:
                    continue
                tested = rows.found[number][step.test.output]
                going = goes_to(step.test, number, tested, before, bias)
                if until_ns is not None and step.test.stages:
                    wanted = going
                    open_ways = self._in_time(number, step.test, until_ns, upto_ms)
                    going = goes_to(step.test, number, tested, None, bias, open_ways)
                    if going != wanted:
                        late = min(late, *going)
                if len(rows.places) > 1 and self._row_axes:
                    parts.remove(rows)
                    groups = self._grouped(rows, number, going)
                    parts += [group for group, _ in groups]
                else:
                    groups = [(rows, max(going))]
                for group, following in groups:
                    if following > number:
                        group.at = following
                        jumped |= following in step.detours
        stages = {rows.reached for rows in parts}
        alike = len(stages) == 1 and not jumped
        route, units, work = self._route(parts), *self._units(parts)
        if late < len(self._steps):
            return Reached(self._together(parts), late, alike, "deadline", route, units, work)
        early = any(self._steps[stage].test is not None for stage in stages)
        stopped_by = "test" if early else "end"
        answer = self._together(parts)
        return Reached(answer, max(stages), alike, stopped_by, route, units, work)

    def run_through(self, inputs: Arrays) -> list[Outputs]:
        """Returns what every stage answers, whatever the tests say; empty of one without."""
        rows, answers = _Rows(inputs), []
        for number, step in enumerate(self._steps):
            rows.pass_stage(number, step)
            answers.append(rows.answer if step.answers else {})
        return answers

    def _begun(self, inputs: Arrays) -> list[_Rows]:
        """Returns each row on its way; all together in front of a router, or for good."""
        axes = self._row_axes
        count = next((inputs[name].shape[axis] for name, axis in axes.items()), 1)
        if count == 1 or self._routes:
            return [_Rows(inputs, range(count))]
        return [_Rows(_taken(inputs, axes, slice(r, r + 1)), (r,)) for r in range(count)]

    def _in_time(
        self, number: int, router: Test, until_ns: int, upto_ms: Sequence[float]
    ) -> list[bool]:
        """Returns which ways of a router end in time; where none does, which end first."""
        left_ms = (until_ns - self._now_ns()) / 1e6
        takes_ms = [upto_ms[stage] - upto_ms[number] for stage in router.stages]
        most_ms = max(left_ms, min(takes_ms))
        return [ms <= most_ms for ms in takes_ms]

    def _grouped(
        self, rows: _Rows, number: int, going: Sequence[int]
    ) -> list[tuple[_Rows, int]]:
        """Returns rows by where they go, and where that is."""
        groups = []
        for following in dict.fromkeys(going):
            own = [row for row, where in enumerate(going) if where == following]
            if len(own) == len(going):
                return [(rows, following)]
            found = {
                stage: _taken(outputs, self._steps[stage].rows, own)
                for stage, outputs in rows.found.items()
            }
            group = _Rows(
                inputs=_taken(rows.inputs, self._row_axes, own),
                places=[rows.places[row] for row in own],
                at=len(self._steps),
                reached=number,
                found=found,
                answer=_taken(rows.answer, self._answer_axes, own),
                answered=rows.answered,
            )
            groups.append((group, following))
        return groups

    def _together(self, parts: Sequence[_Rows]) -> Outputs:
        first = parts[0].answer
        if len(parts) == 1:
            return first
        axes = self._answer_axes
        back = np.argsort([place for rows in parts for place in rows.places])
        joined = {
            name: np.concatenate([rows.answer[name] for rows in parts], axis)
            for name, axis in axes.items()
        }
        return {**first, **_taken(joined, axes, back)}

    def _units(self, parts: Sequence[_Rows]) -> tuple[dict[str, float], float]:
        """Returns for which share of the rows each unit ran that gates decided about.

        And what that was in work, over the most that they let run.
        """
        shares: dict[str, float] = {}
        work = 1.0
        for number, step in enumerate(self._steps):
            if step.gates is not None:
                found = [r.found[number][DECISIONS] for r in parts if number in r.found]
                if found:
                    ran = np.concatenate(found)
                    shares |= step.gates.shares(ran)
                    work = step.gates.work(ran)
        return shares, work

    def _route(self, parts: Sequence[_Rows]) -> tuple[str, ...]:
        """Returns what answered each row."""
        if len(parts) == 1 and not self._row_axes:
            return (parts[0].answered,)
        named = sorted((place, rows.answered) for rows in parts for place in rows.places)
        return tuple(name for _, name in named)


def _taken(arrays: Arrays, axes: Mapping[str, int], rows: Any) -> Outputs:
    """Returns some rows of arrays; ``axes`` has the dimension of those that have any."""
    return {
        name: array[(slice(None),) * axes[name] + (rows,)] if name in axes else array
        for name, array in arrays.items()
    }


@dataclass(frozen=True, slots=True)
class Runs:
    """What each configuration runs: a graph on the family's inputs as it is, or a chain."""

    plain: Mapping[str, Run]
    chains: Mapping[str, Chain]

    def warm_up(self, configuration: str, inputs: Arrays) -> None:
        """Calls a configuration once, all its stages."""
        run = self.plain.get(configuration)
        if run is None:
            self.chains[configuration].run_through(inputs)
        else:
            run(inputs)


def runs_of(
    family: Family,
    inputs: Sequence[TensorSpec],
    dimensions: Sequence[Dimension],
    residency: Residency[Engine],
    now_ns: Callable[[], int],
) -> Runs:
    """Returns what each configuration runs, as far as its engines are loaded now."""
    runs, plain, chains = residency.runs(), {}, {}
    if not residency.all_stay:  # in warm-up, at the latest; then nothing is in between
        runs = {graph: partial(family.checked, graph, run) for graph, run in runs.items()}
    for name, route in family.routes.items():
        if _is_plain(route, family):
            plain[name] = runs[route[0].graph]
            continue
        steps, detours = [], _detours(route)
        for number, stage in enumerate(route):
            ahead = None
            # Where a router sends its rows is not known ahead.
            usual = stage.test is not None and not stage.test.stages
            if usual and not residency.all_stay:
                ahead = partial(residency.prepare, route[number + 1].graph)
            graph = family.graphs.get(stage.graph)
            takes = inputs if graph is None else graph.inputs
            made = runs[stage.graph], takes, family, ahead, detours[number]
            steps.append(_step(stage, number, *made))
        chains[name] = Chain(steps, inputs, family.outputs, batch_in(dimensions), now_ns)
    return Runs(plain, chains)


def _step(
    stage: Stage,
    number: int,
    run: Run,
    takes: Sequence[TensorSpec],
    family: Family,
    ahead: Callable[[], object] | None,
    detours: frozenset[int],
) -> _Step:
    specs = {spec.name: spec for spec in takes}
    constants = {
        name: np.asarray(values, specs[name].dtype).reshape(_sizes(specs[name]))
        for name, values in stage.settings.items()
    }
    feeds: list[tuple[str, int | None, str]] = []
    for name in specs:
        if name not in constants:
            feed = stage.feeds.get(name, name)
            feeds.append((name, *(source_of(feed) or (None, feed))))
    answers = {}
    if stage.answers_at(number):
        answers = {
            spec.name: stage.answers.get(spec.name, spec.name) for spec in family.outputs
        }
    compares = stage.test is not None and "agreement" in stage.test.scores
    tested = stage.tested if compares else ""
    graph = family.graphs.get(stage.graph)
    return _Step(
        *(stage.graph, run, tuple(feeds), constants, answers, stage.test, ahead, tested),
        rows=row_axes(family.outputs if graph is None else graph.outputs),
        detours=detours,
        gates=family.gates.get(stage.graph),
    )


def _detours(route: Sequence[Stage]) -> list[frozenset[int]]:
    """Returns by stage where it leads to past stages that would lead there, too.

    What such a way takes is less than what is known of the stage, whose times are those of
    the longest.
    """
    following = [set(stage.following(number)) for number, stage in enumerate(route)]
    ways = Counter(later for number, each in enumerate(following) for later in each - {number})
    return [
        frozenset(later for later in each if later > number + 1 and ways[later] > 1)
        for number, each in enumerate(following)
    ]


def _is_plain(route: Sequence[Stage], family: Family) -> bool:
    """Tells whether a route is its one graph, with nothing fed, set, renamed or left out."""
    if len(route) > 1 or not route[0].is_plain:
        return False
    graph = family.graphs.get(route[0].graph)
    return graph is None or _names(graph.outputs) == _names(family.outputs)


def _names(specs: Sequence[TensorSpec]) -> set[str]:
    return {spec.name for spec in specs}


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    """Returns the shape of an input that has a fixed one, as those with a setting do."""
    return tuple(size for size in spec.shape if isinstance(size, int))

"""A configuration of several stages: feeds, runs, answers, tests.

The rows of a batch leave one by one: each is a call of its own, since on a CPU a batch costs
what its rows cost, and what is put together again for the rest would only be copied. All rows
pass a stage before one goes on to the next, so that whoever runs out of time has an answer
for each. Where a batch cannot be taken apart (its size is fixed, or may not be 1), it stays
together and stops when no row of it wants to go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from ..bundle.route import source_of
from ..errors import InputError
from .tests import goes_to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..backends import Arrays, Engine, Outputs, Run
    from ..bundle.route import Stage, Test
    from ..bundle.tensors import BatchRange, TensorSpec
    from ..load.opening import Family
    from ..load.residency import Residency

    Feeds = tuple[tuple[str, int | None, str], ...]


class Reached(NamedTuple):
    """What a chain answered: the family's outputs, and the last stage that a row reached.

    Where a deadline stopped rows ``stage`` is the first at which it did. ``alike`` tells
    whether every row stopped there, and ran all stages before: else the time says nothing
    about a stage.
    ``stopped_by`` is ``deadline`` where that stopped a row, else ``test`` where a row was
    answered before the route's ``end``.
    """

    outputs: Outputs
    stage: int
    alike: bool
    stopped_by: str


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage, ready to run.

    ``feeds`` are the inputs that come from a stage, or from the call itself (None), and their
    names there; ``constants`` have a fixed value. ``answers`` are the graph's outputs by the
    family's names, empty if it never answers. ``ahead`` begins to load the next stage, where
    it may not be there. ``tested`` is the output of the family that the test compares with
    the answer before; empty if it does not.
    """

    run: Run
    feeds: Feeds
    constants: Arrays
    answers: Mapping[str, str]
    test: Test | None
    ahead: Callable[[], object] | None
    tested: str


@dataclass(slots=True)
class _Rows:
    """Rows on their way together.

    ``at`` is the stage that runs next, past the last one when they are answered; ``reached``
    the one that ran last. ``found`` are the outputs of those that ran.
    """

    inputs: Arrays
    at: int = 0
    reached: int = 0
    found: dict[int, Outputs] = field(default_factory=dict)
    answer: Outputs = field(default_factory=dict)

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
        batch: BatchRange | None,
        now_ns: Callable[[], int],
    ) -> None:
        self._steps = tuple(steps)
        self._now_ns = now_ns
        apart = batch is not None and batch.minimum == 1 and len(steps) > 1
        self._row_axes = _row_axes(inputs) if apart else {}
        self._answer_axes = _row_axes(outputs)

    def run(
        self, inputs: Arrays, until_ns: int | None = None, upto_ms: Sequence[float] = ()
    ) -> Reached:
        """Returns the answer, and the stage that it is from.

        Args:
            inputs: The family's inputs, already checked.
            until_ns: The clock's time at which the answer must be there: a stage that is
                predicted to end later is not begun, once there is an answer. None for no
                limit.
            upto_ms: What the route is predicted to take up to the end of each stage; needed
                with ``until_ns``.

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
        parts = [_Rows(part) for part in self._apart(inputs)]
        late, jumped = len(self._steps), False
        for number, step in enumerate(self._steps):
            for rows in parts:
                if rows.at != number:
                    continue
                if until_ns is not None and rows.answer:
                    stage_ms = upto_ms[number] - upto_ms[rows.reached]
                    if self._now_ns() + stage_ms * 1e6 > until_ns:
                        rows.at, late = len(self._steps), min(late, rows.reached)
                        continue
                before = rows.answer.get(step.tested)
                rows.pass_stage(number, step)
                rows.at = len(self._steps)
                if step.test is not None:
                    tested = rows.found[number][step.test.output]
                    following = max(goes_to(step.test, number, tested, before).tolist())
                    if following > number:
                        rows.at = following
                        jumped |= following > number + 1
        stages = {rows.reached for rows in parts}
        alike = len(stages) == 1 and not jumped
        early = min(stages) < len(self._steps) - 1
        if late < len(self._steps):
            return Reached(self._together(parts), late, alike, "deadline")
        stopped_by = "test" if early else "end"
        return Reached(self._together(parts), max(stages), alike, stopped_by)

    def run_through(self, inputs: Arrays) -> list[Outputs]:
        """Returns what every stage answers, whatever the tests say; empty of one without."""
        rows, answers = _Rows(inputs), []
        for number, step in enumerate(self._steps):
            rows.pass_stage(number, step)
            answers.append(rows.answer if step.answers else {})
        return answers

    def _apart(self, inputs: Arrays) -> list[Arrays]:
        """Returns the inputs row by row; all together where they cannot be parted."""
        axes = self._row_axes
        rows = next((inputs[name].shape[axis] for name, axis in axes.items()), 1)
        if rows == 1:
            return [inputs]
        return [
            {
                name: array[(slice(None),) * axes[name] + (slice(row, row + 1),)]
                if name in axes
                else array
                for name, array in inputs.items()
            }
            for row in range(rows)
        ]

    def _together(self, parts: Sequence[_Rows]) -> Outputs:
        first = parts[0].answer
        if len(parts) == 1:
            return first
        return {
            name: np.concatenate(
                [rows.answer[name] for rows in parts], self._answer_axes[name]
            )
            if name in self._answer_axes
            else array
            for name, array in first.items()
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
    batch: BatchRange | None,
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
        steps = []
        for number, stage in enumerate(route):
            ahead = None
            if number + 1 < len(route) and not residency.all_stay:
                ahead = partial(residency.prepare, route[number + 1].graph)
            graph = family.graphs.get(stage.graph)
            takes = inputs if graph is None else graph.inputs
            steps.append(_step(stage, number, runs[stage.graph], takes, family, ahead))
        chains[name] = Chain(steps, inputs, family.outputs, batch, now_ns)
    return Runs(plain, chains)


def _step(
    stage: Stage,
    number: int,
    run: Run,
    takes: Sequence[TensorSpec],
    family: Family,
    ahead: Callable[[], object] | None,
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
    return _Step(run, tuple(feeds), constants, answers, stage.test, ahead, tested)


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


def _row_axes(specs: Sequence[TensorSpec]) -> dict[str, int]:
    """Returns the dimension that the rows lie in, of each tensor that has one."""
    return {
        spec.name: axis
        for spec in specs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str)
    }

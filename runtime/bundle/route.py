"""The route of a configuration: the graphs it runs one after the other, and when it stops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import numpy as np

from ..errors import FormatError, choices_text
from .constraints import KeysOf, Positive

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .tensors import TensorSpec

Array = TypeVar("Array")

SCORES = ("max-softmax", "margin", "entropy", "agreement", "value")
"""What a test may know of an answer: see ``call/tests.py``."""
NEVER = 2.0
"""A threshold above every weighted sum whose weights' absolute values add up to 1."""


@dataclass(frozen=True, slots=True)
class Jump:
    """Where a row goes whose score is below ``below``: to a ``stage`` behind the next one."""

    below: float
    stage: int


@dataclass(frozen=True, slots=True)
class Test:
    """Looks at a stage's answer, row by row: return it, or go on.

    Without ``stages``: a row is answered where the weighted sum of its ``scores`` is at least
    ``threshold``, else the next stage runs, or the one that a ``jump`` names. With ``stages``
    it is a router: the row's largest value of ``output``, less ``bias`` times the cost that
    ``costs`` has for it, picks the entry of ``stages`` that says where the row goes, to a
    later stage, or by the stage's own number to the answer. ``temperature`` is what ``output``
    is divided by before the softmax. ``agreement`` is with the answer that the row had before.
    """

    __test__ = False  # for pytest, which takes a class of this name for its own

    output: str
    scores: Annotated[Mapping[str, float], KeysOf(SCORES)] = field(default_factory=dict)
    threshold: float = 0.0
    temperature: Positive = 1.0
    stages: tuple[int, ...] = ()
    jump: Jump | None = None
    costs: tuple[float, ...] = ()
    bias: float = 0.0

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where it is neither a test of scores nor a router."""
        if bool(self.scores) == bool(self.stages):
            raise FormatError(f"{where}: a test has either 'scores' or 'stages'.")
        if self.jump is not None and (self.stages or self.jump.below > self.threshold):
            raise FormatError(
                f"{where}: a 'jump' is of a test of scores, from below its 'threshold',"
                f" {self.threshold:g}."
            )
        if "value" in self.scores and len(self.scores) > 1:
            raise FormatError(f"{where}: 'value' is the whole score, found others beside it.")
        if self.costs and len(self.costs) != len(self.stages):
            raise FormatError(
                f"{where}: 'costs' has {len(self.costs)} numbers, expected one for each of the"
                f" {len(self.stages)} 'stages' of a router."
            )
        if self.bias and not self.costs:
            raise FormatError(
                f"{where}: 'bias' is {self.bias:g}, but there are no 'costs' that it weighs."
            )


@dataclass(frozen=True, slots=True)
class Stage:
    """One graph of a route.

    Attributes:
        graph: Its name.
        feeds: Where inputs of the graph come from: an input of the family (``images``), or an
            earlier stage's output with that stage's number (``0.hidden``). An input neither
            fed nor set is the family's of its name.
        settings: Inputs with a fixed value, in row-major order.
        answers: The graph's output for an output of the family, by the family's name; one
            that is not listed has the same name in both.
        test: Looks at the answer; None exactly where the route ends.
    """

    graph: str
    feeds: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, tuple[bool | float, ...]] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    test: Test | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it runs its graph on the family's inputs, for the family's outputs."""
        return not (self.feeds or self.settings or self.answers or self.test)

    def following(self, number: int) -> tuple[int, ...]:
        """Returns the stages that may run after this one, of this ``number``.

        Its own number stands for an answer.
        """
        if self.test is None:
            return ()
        further = (self.test.jump.stage,) if self.test.jump is not None else ()
        return self.test.stages or (number, number + 1, *further)

    @property
    def tested(self) -> str:
        """The output of the family that its test looks at, or the graph's if it is none."""
        assert self.test is not None
        own = self.test.output
        return next((name for name, output in self.answers.items() if output == own), own)

    def answers_at(self, number: int) -> bool:
        """Tells whether a row may be answered here; a router may send all of them on."""
        return self.test is None or number in self.following(number)

    def answer(
        self, outputs: Iterable[TensorSpec], found: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Returns what it answers, by the family's names.

        Args:
            outputs: The family's outputs.
            found: What its graph gives.
        """
        return {spec.name: found[self.answers.get(spec.name, spec.name)] for spec in outputs}


def upto_ends(route: Sequence[Stage], each: Sequence[float]) -> list[float]:
    """Returns what is taken up to the end of each stage, by the longest way to it."""
    upto = list(each)
    for number, stage in enumerate(route):
        for later in stage.following(number):
            if later > number:
                upto[later] = max(upto[later], upto[number] + each[later])
    return upto


def source_of(feed: str) -> tuple[int, str] | None:
    """Returns the stage and the output that a feed names; None for an input of the family."""
    stage, dot, output = feed.partition(".")
    return (int(stage), output) if dot and stage.isascii() and stage.isdigit() else None


def only_handed_over(
    routes: Iterable[Sequence[Stage]], outputs: Sequence[TensorSpec]
) -> dict[str, frozenset[str]]:
    """Returns the outputs of each graph that later stages read, and nobody else.

    Args:
        routes: Those of all configurations.
        outputs: The family's outputs.
    """
    fed: set[tuple[str, str]] = set()
    told: set[tuple[str, str]] = set()
    for route in routes:
        for number, stage in enumerate(route):
            sources = filter(None, map(source_of, stage.feeds.values()))
            fed |= {(route[earlier].graph, name) for earlier, name in sources}
            if stage.answers_at(number):
                own = (stage.answers.get(spec.name, spec.name) for spec in outputs)
                told |= {(stage.graph, name) for name in own}
            if stage.test is not None:
                told.add((stage.graph, stage.test.output))
    staying = fed - told
    return {
        graph: frozenset(name for each, name in staying if each == graph)
        for graph, _ in staying
    }


def golden_names(answers: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Returns what the stages of a route answer, by the names that golden files use.

    Those are the family's; behind a stage's number, ``0.logits``, where there are several.

    Args:
        answers: By stage, its answer by the family's names; empty of one that has none.
    """
    if len(answers) == 1:
        return dict(answers[0])
    return {
        f"{number}.{name}": array
        for number, answer in enumerate(answers)
        for name, array in answer.items()
    }


class Graph(Protocol):
    """What a route asks of a graph."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors where it begins."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors where it ends."""


def check_route(
    route: Sequence[Stage], graphs: Mapping[str, Graph], family: Graph, where: str
) -> None:
    """Raises ``FormatError`` where a stage names what there is not, or what does not fit.

    ``family`` is what every route begins and ends with.
    """
    ran_before: dict[int, frozenset[int]] = {0: frozenset()}
    for number, stage in enumerate(route):
        here = f"{where}: stage {number}"
        if stage.graph not in graphs:
            raise FormatError(
                f"{here} runs the graph {stage.graph!r}, which is not one of the bundle."
                f" {choices_text(stage.graph, graphs)}"
            )
        if number not in ran_before:
            raise FormatError(f"{here} is reached by no test of an earlier stage.")
        ends = {
            earlier: {spec.name: spec for spec in graphs[route[earlier].graph].outputs}
            for earlier in (*ran_before[number], number)
        }
        graph, made = graphs[stage.graph], ends.pop(number)
        _check_inputs(stage, graph, {spec.name: spec for spec in family.inputs}, ends, here)
        if stage.test is not None:
            _check_test(stage.test, stage, number, len(route), made, here)
            if "agreement" in stage.test.scores:
                before = [route[earlier].answers_at(earlier) for earlier in ran_before[number]]
                _check_agreement(stage, any(before), family.outputs, here)
        if stage.answers_at(number):
            _check_answers(stage, made, family.outputs, here)
        for later in set(stage.following(number)) - {number}:
            path = ran_before[number] | {number}
            ran_before[later] = path & ran_before.get(later, path)


def _check_inputs(
    stage: Stage,
    graph: Graph,
    family: Mapping[str, TensorSpec],
    ends: Mapping[int, Mapping[str, TensorSpec]],
    here: str,
) -> None:
    """Checks that each input has one source that fits; ``ends`` are the stages that ran."""
    both = [name for name in stage.feeds if name in stage.settings]
    if both:
        raise FormatError(f"{here}: the input {both[0]!r} is both fed and set.")
    takes = {spec.name for spec in graph.inputs}
    for name in (*stage.feeds, *stage.settings):
        if name not in takes:
            raise FormatError(
                f"{here}: the graph {stage.graph!r} has no input {name!r}."
                f" {choices_text(name, takes)}"
            )
    for spec in graph.inputs:
        place = f"{here}: the input {spec.name!r}"
        if spec.name in stage.settings:
            _check_setting(spec, stage.settings[spec.name], place)
            continue
        feed = stage.feeds.get(spec.name, spec.name)
        source = source_of(feed)
        if source is not None and source[0] not in ends:
            raise FormatError(
                f"{place} is to be {feed!r}, but stage {source[0]} does not always run before."
            )
        given = family if source is None else ends[source[0]]
        name = feed if source is None else source[1]
        if name not in given:
            whose = "an input of the family" if source is None else "an output of that stage"
            raise FormatError(
                f"{place} is to be {feed!r}, which is not {whose}. {choices_text(name, given)}"
            )
        _check_kind(given[name], spec, f"{place} is to be {feed!r}")


def _check_setting(spec: TensorSpec, value: tuple[bool | float, ...], place: str) -> None:
    sizes = [size for size in spec.shape if isinstance(size, int)]
    if len(sizes) < len(spec.shape):
        raise FormatError(f"{place} grows with the batch ({spec.kind}), so it cannot be set.")
    if len(value) != math.prod(sizes):
        raise FormatError(
            f"{place} is set to {len(value)} numbers, expected {math.prod(sizes)}: it is"
            f" {spec.kind}."
        )
    unfit = [number for number in value if not _fits(number, spec.dtype)]
    if unfit:
        raise FormatError(f"{place} is set to {unfit[0]!r}, which {spec.dtype} cannot hold.")


def _fits(number: bool | float, dtype: str) -> bool:
    if isinstance(number, bool) or dtype == "bool":
        return isinstance(number, bool) and dtype == "bool"
    if dtype.startswith("float"):
        return abs(number) <= float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return float(number).is_integer() and limits.min <= number <= limits.max


def _check_answers(
    stage: Stage,
    made: Mapping[str, TensorSpec],
    outputs: tuple[TensorSpec, ...],
    here: str,
) -> None:
    names = [spec.name for spec in outputs]
    unknown = [name for name in stage.answers if name not in names]
    if unknown:
        raise FormatError(
            f"{here} answers {unknown[0]!r}, which is not an output of the family."
            f" {choices_text(unknown[0], names)}"
        )
    for spec in outputs:
        given = stage.answers.get(spec.name, spec.name)
        place = f"{here}: the answer {spec.name!r} is to be {given!r}"
        if given not in made:
            raise FormatError(
                f"{place}, which is not an output of the graph {stage.graph!r}."
                f" {choices_text(given, made)}"
            )
        _check_kind(made[given], spec, place)


def _check_kind(found: TensorSpec, expected: TensorSpec, place: str) -> None:
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        raise FormatError(f"{place}: that is {found.kind}, expected {expected.kind}.")


def _check_agreement(
    stage: Stage, answered: bool, outputs: tuple[TensorSpec, ...], here: str
) -> None:
    """Checks that there is an answer, of the stage and of one before, to agree."""
    if not answered:
        raise FormatError(
            f"{here} is tested by 'agreement', but no stage that always runs before answers."
        )
    if stage.tested not in [spec.name for spec in outputs]:
        raise FormatError(
            f"{here} is tested by 'agreement' of {stage.tested!r}, which is no answer."
        )


def _check_test(
    test: Test,
    stage: Stage,
    number: int,
    stages: int,
    made: Mapping[str, TensorSpec],
    here: str,
) -> None:
    """Checks that a stage's test can look at what it names, and leads somewhere."""
    if test.output not in made:
        raise FormatError(
            f"{here} tests {test.output!r}, which is not an output of the graph"
            f" {stage.graph!r}. {choices_text(test.output, made)}"
        )
    shape = made[test.output].shape
    row = math.prod(size for size in shape[1:] if isinstance(size, int))
    one = "value" in test.scores
    if not shape or one != (row == 1):
        wanted = "one number" if one else "a number for each class"
        raise FormatError(
            f"{here} tests {test.output!r}, which is {made[test.output].kind}. Expected"
            f" {wanted} in each row."
        )
    if test.stages and len(test.stages) != row:
        raise FormatError(
            f"{here}: its router names {len(test.stages)} stages, expected {row}: one for each"
            f" class of {test.output!r}."
        )
    if test.jump is not None and test.jump.stage <= number + 1:
        raise FormatError(
            f"{here} jumps to stage {test.jump.stage}, expected one behind the next, which is"
            f" {number + 1}."
        )
    wrong = [later for later in stage.following(number) if not number <= later < stages]
    if wrong:
        raise FormatError(
            f"{here} goes on to stage {wrong[0]}, expected a later one of {stages}"
            f" (0 to {stages - 1})."
        )

"""The route of a configuration: the graphs it runs one after the other, and when it stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import FormatError, choices_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCORES = ("max-softmax", "margin", "entropy", "value")
"""What a test may know of an answer: see ``call/tests.py``."""


@dataclass(frozen=True, slots=True)
class Test:
    """Looks at a stage's answer, row by row: return it, or go on.

    Without ``stages``: a row is answered where the weighted sum of its ``scores`` is at least
    ``threshold``, else the next stage runs. With ``stages`` it is a router: the row's largest
    value of ``output`` picks the entry of ``stages`` that says where the row goes, to a later
    stage, or by the stage's own number to the answer.

    Attributes:
        output: The graph's output that is looked at: a score per class, (rows, classes).
        scores: The weight of each score, by a name of ``SCORES``; empty for a router.
        threshold: See above; 0 for a router.
        temperature: What ``output`` is divided by before the softmax.
        stages: Of a router, where a row goes, by class; else empty.
    """

    __test__ = False  # for pytest, which takes a class of this name for its own

    output: str
    scores: Mapping[str, float] = field(default_factory=dict)
    threshold: float = 0.0
    temperature: float = 1.0
    stages: tuple[int, ...] = ()


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
    settings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    test: Test | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it runs its graph on the family's inputs, for the family's outputs."""
        return not (self.feeds or self.settings or self.answers or self.test)


def source_of(feed: str) -> tuple[int, str] | None:
    """Returns the stage and the output that a feed names; None for an input of the family."""
    stage, dot, output = feed.partition(".")
    return (int(stage), output) if dot and stage.isascii() and stage.isdigit() else None


def check_route(
    route: Sequence[Stage],
    graphs: Mapping[str, tuple[Iterable[str], Iterable[str]]],
    inputs: Iterable[str],
    outputs: Iterable[str],
    where: str,
) -> None:
    """Checks that a route can be run.

    Args:
        route: The stages.
        graphs: The inputs and the outputs of each graph, by its name.
        inputs: The family's inputs.
        outputs: The family's outputs.
        where: The route's place, which messages begin with.

    Raises:
        FormatError: A stage names what there is not, or its number leads nowhere.
    """
    if not route:
        raise FormatError(f"{where}: the route is empty, expected at least one stage.")
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
        takes, gives = (set(names) for names in graphs[stage.graph])
        _check_feeds(stage, takes, set(inputs), route, graphs, ran_before[number], here)
        _check_answers(stage, number, gives, set(outputs), here)
        for following in _following(stage, number, len(route), gives, here):
            path = ran_before[number] | {number}
            ran_before[following] = path & ran_before.get(following, path)


def _check_feeds(
    stage: Stage,
    takes: set[str],
    inputs: set[str],
    route: Sequence[Stage],
    graphs: Mapping[str, tuple[Iterable[str], Iterable[str]]],
    ran_before: frozenset[int],
    here: str,
) -> None:
    both = [name for name in stage.feeds if name in stage.settings]
    if both:
        raise FormatError(f"{here}: the input {both[0]!r} is both fed and set.")
    for name in (*stage.feeds, *stage.settings):
        if name not in takes:
            raise FormatError(
                f"{here}: the graph {stage.graph!r} has no input {name!r}."
                f" {choices_text(name, takes)}"
            )
    for name in sorted(takes - stage.settings.keys()):
        feed = stage.feeds.get(name, name)
        source = source_of(feed)
        if source is None:
            if feed not in inputs:
                raise FormatError(
                    f"{here}: the input {name!r} is to be {feed!r}, which is not an input of"
                    f" the family. {choices_text(feed, inputs)}"
                )
            continue
        earlier, output = source
        if earlier not in ran_before:
            raise FormatError(
                f"{here}: the input {name!r} is to be {feed!r}, but stage {earlier} does not"
                " always run before."
            )
        if output not in graphs[route[earlier].graph][1]:
            choices = choices_text(output, graphs[route[earlier].graph][1])
            raise FormatError(f"{here}: stage {earlier} has no output {output!r}. {choices}")


def _check_answers(
    stage: Stage, number: int, gives: set[str], outputs: set[str], here: str
) -> None:
    unknown = sorted(stage.answers.keys() - outputs)
    if unknown:
        raise FormatError(
            f"{here} answers {unknown[0]!r}, which is not an output of the family."
            f" {choices_text(unknown[0], outputs)}"
        )
    never = stage.test is not None and stage.test.stages and number not in stage.test.stages
    for name in () if never else sorted(outputs):
        given = stage.answers.get(name, name)
        if given not in gives:
            raise FormatError(
                f"{here}: the answer {name!r} is to be {given!r}, which is not an output of"
                f" the graph {stage.graph!r}. {choices_text(given, gives)}"
            )


def _following(
    stage: Stage, number: int, stages: int, gives: set[str], here: str
) -> tuple[int, ...]:
    """Returns the stages that may run after this one."""
    test = stage.test
    if test is None:
        return ()
    if test.output not in gives:
        raise FormatError(
            f"{here} tests {test.output!r}, which is not an output of the graph"
            f" {stage.graph!r}. {choices_text(test.output, gives)}"
        )
    unknown = [name for name in test.scores if name not in SCORES]
    if unknown:
        choices = choices_text(unknown[0], SCORES)
        raise FormatError(f"{here} tests the score {unknown[0]!r}. {choices}")
    if bool(test.scores) == bool(test.stages):
        raise FormatError(f"{here}: a test has either 'scores' or 'stages'.")
    if test.temperature <= 0:
        raise FormatError(f"{here}: the temperature {test.temperature:g} is not above 0.")
    following = test.stages or (number + 1,)
    wrong = [other for other in following if not number <= other < stages]
    if wrong:
        raise FormatError(
            f"{here} goes on to stage {wrong[0]}, expected a later one of {stages}"
            f" (0 to {stages - 1})."
        )
    return tuple(other for other in following if other != number)

"""What a configuration answers with damaged weights, and damage between its stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import TolerateError
from skipc.compiler.tolerate.injected import InjectedGraph
from skipc.runtime.bundle.route import source_of
from skipc.runtime.call.tests import goes_to
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.select.samples import Samples
    from skipc.compiler.tolerate.memory import Memory, Rates
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.runtime.bundle.route import Stage

    Arrays = Mapping[str, NDArray[Any]]
    Rows = NDArray[np.intp]
    Classes = NDArray[np.intp]
    Bools = NDArray[np.bool_]

_NO_NUMBER = -1
"""The class of an answer that is no number: always a wrong one."""


def check_classifier(bundle: Bundle) -> None:
    """Refuses with a ``TolerateError`` a bundle that does not classify sample by sample."""
    spec, *more = bundle.manifest.outputs
    if more or len(spec.shape) != 2:
        shapes = ", ".join(each.kind for each in bundle.manifest.outputs)
        raise TolerateError(
            f"{bundle.path} answers {shapes}. What errors cost is told by one output of shape"
            " (N, classes)."
        )
    batch = bundle.manifest.batch
    rows = batch.minimum if batch else spec.shape[0]
    if rows != 1:
        raise TolerateError(
            f"{bundle.path} takes {rows} samples at least. Errors are looked at sample by"
            " sample: build it for a batch of 1 or more."
        )


def chosen_entries(bundle: Bundle, name: str | None) -> tuple[ConfigurationEntry, ...]:
    """Returns the configuration that is named, or all of them.

    Raises ``TolerateError`` where there is none of that name.
    """
    found = {entry.name: entry for entry in bundle.manifest.configurations}
    if name is None:
        return tuple(found.values())
    if name not in found:
        raise TolerateError(
            f"--configuration {name!r}: {bundle.path} has none of that name."
            f" {choices_text(name, found)}"
        )
    return (found[name],)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A tensor that one stage computes and a later one reads.

    Attributes:
        name: For people: the configuration, the stage and the tensor.
        stage: Which stage computes it.
        tensor: What its graph calls it.
        number: Of the tensor among those of the route.
        dtype: Of its values.
        row_bytes: Of one sample.
        low: Its smallest value on intact data.
        high: Its largest value on intact data.
    """

    name: str
    stage: int
    tensor: str
    number: int
    dtype: str
    row_bytes: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of the data, and what a configuration makes of it when nothing is damaged.

    Attributes:
        labels: (N,).
        kept: By stage, what ``InjectedGraph.intact`` returned.
        given: The classes answered.
    """

    labels: NDArray[np.int64]
    kept: Sequence[Sequence[Arrays]]
    given: Classes

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> Bools:
        """Whether the answer was the label, (N,)."""
        found: Bools = self.given == self.labels
        return found


class InjectedRoute:
    """A configuration that runs with damaged tensors.

    Args:
        bundle: The bundle.
        entry: The configuration.
        memory: Its weights.
        samples: Some of the data, for the ranges of what is handed over.

    Raises:
        TolerateError: The graphs cannot be run with other weights.
    """

    def __init__(
        self, bundle: Bundle, entry: ConfigurationEntry, memory: Memory, samples: Samples
    ) -> None:
        self.name = entry.name
        self._route, self._memory = entry.route, memory
        self._outputs = bundle.manifest.outputs
        self._inputs = {
            graph.name: tuple(spec.name for spec in graph.inputs)
            for graph in bundle.manifest.graphs_of(entry)
        }
        # By graph, the initializers and which stored tensor each is.
        self._weights = {
            graph.name: {
                own: name for (file, own), name in memory.names.items() if file == graph.file
            }
            for graph in bundle.manifest.graphs_of(entry)
        }
        self._graphs: dict[str, InjectedGraph] = {}
        found: list[Arrays] = []
        for stage in entry.route:
            graph, fed = (
                bundle.manifest.graph(stage.graph),
                self._fed(stage, samples.inputs, found),
            )
            if graph.name not in self._graphs:
                exposed = frozenset(self._weights[graph.name])
                self._graphs[graph.name] = InjectedGraph(bundle, graph, exposed, fed)
            found.append(self._graphs[graph.name].again(fed, {}))
        self.handed_over = self._handed_over(found)

    def part(self, samples: Samples) -> Part:
        """Returns a part of the data with what the intact configuration makes of it."""
        kept: list[list[Arrays]] = []
        for stage in self._route:
            fed = self._fed(stage, samples.inputs, [each[-1] for each in kept])
            kept.append(self._graphs[stage.graph].intact(fed))
        found = [each[-1] for each in kept]
        return Part(samples.targets, kept, self._answered(found))

    def lost(self, part: Part, rows: Rows, key: Sequence[int], rates: Rates) -> Bools:
        """Returns which rows are answered wrong that were right when nothing was damaged.

        Args:
            part: The data.
            rows: Which of its samples.
            key: Of the pattern of errors, which all of them meet.
            rates: By tensor, the rate of errors where it lies.
        """
        given = self.given(part, rows, key, rates)
        found: Bools = part.right[rows] & (given != part.labels[rows])
        return found

    def given(self, part: Part, rows: Rows, key: Sequence[int], rates: Rates) -> Classes:
        """Returns the classes that are answered; see ``lost``."""
        seeded = self._memory.key(*key)
        damaged = self._memory.damaged(seeded, rates)
        hit = {each.stage for each in self.handed_over if rates.get(each.name)}
        if not damaged and not hit:
            return part.given[rows]
        found: list[Arrays] = []
        handed: list[Arrays] = []
        for number, stage in enumerate(self._route):
            graph, own = self._graphs[stage.graph], self._weights[stage.graph]
            here = {init: damaged[name] for init, name in own.items() if name in damaged}
            kept = part.kept[number]
            changed = {
                name: handed[source[0]][source[1]]
                for name, feed in stage.feeds.items()
                if (source := source_of(feed)) and handed[source[0]]
            }
            if changed:
                others = {n: a[rows] for n, a in kept[0].items() if n not in changed}
                found.append(graph.again({**others, **changed}, here))
            else:
                found.append(graph.run(kept, rows, here))
            # Nothing where it is what the intact graph hands over.
            passed = dict(found[-1]) if changed or here or number in hit else {}
            for each in self.handed_over:
                rate = rates.get(each.name, 0.0)
                if each.stage == number and rate:
                    passed[each.tensor] = self._memory.handed_over(
                        seeded, each.number, passed[each.tensor], rate, each.low, each.high
                    )
            handed.append(passed)
        return self._answered(found)

    def _fed(self, stage: Stage, inputs: Arrays, found: Sequence[Arrays]) -> Arrays:
        """Returns what a stage reads, by the names of its graph's inputs."""
        fed = {}
        for name in self._inputs[stage.graph]:
            feed = stage.feeds.get(name, name)
            source = source_of(feed)
            fed[name] = inputs[feed] if source is None else found[source[0]][source[1]]
        return fed

    def _handed_over(self, found: Sequence[Arrays]) -> tuple[HandedOver, ...]:
        """Returns the tensors that later stages read and that are numbers with a fraction."""
        feeds = (source_of(feed) for stage in self._route for feed in stage.feeds.values())
        made: list[HandedOver] = []
        for number, tensor in sorted({source for source in feeds if source}):
            array = found[number][tensor]
            if array.dtype.kind != "f":
                continue
            name = f"{self.name}: {tensor} of stage {number}"
            row_bytes = array.nbytes // len(array)
            low, high = float(array.min()), float(array.max())
            place = name, number, tensor, len(made)
            made.append(HandedOver(*place, str(array.dtype), row_bytes, low, high))
        return tuple(made)

    def _answered(self, found: Sequence[Arrays]) -> Classes:
        """Returns the class that each row is answered, by the tests of the route."""
        (spec,) = self._outputs
        rows = len(next(iter(found[0].values())))
        at, classes = np.zeros(rows, np.intp), np.full(rows, _NO_NUMBER)
        before: NDArray[Any] | None = None
        for number, (stage, outputs) in enumerate(zip(self._route, found, strict=True)):
            here = at == number
            answer = None
            if stage.answers_at(number):
                answer = stage.answer(self._outputs, outputs)[spec.name]
            if stage.test is not None:
                tested = outputs[stage.test.output]
                with np.errstate(all="ignore"):  # errors make numbers that are none
                    going = np.array(goes_to(stage.test, number, tested, before))
                at[here] = going[here]
            if answer is None:
                continue
            stops = here & (at == number)
            finite = np.isfinite(answer).all(1)
            classes[stops] = np.where(finite, answer.argmax(1), _NO_NUMBER)[stops]
            if before is None:
                before = answer.copy()
            before[here] = answer[here]
        return classes

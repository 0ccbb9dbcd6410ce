"""What there is to load of a family, and loading and warming up all of it, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..backends import comes_from
from ..bundle.route import Stage
from ..bundle.tensors import batch_of, misfit
from ..errors import EngineError, SkipcError, reason_of
from .residency import Item, Residency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..backends import Arrays, Outputs, Run
    from ..bundle.route import Graph
    from ..bundle.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Family:
    """What there is to load: the routes of the configurations, and the graphs that they run.

    Attributes:
        routes: By configuration.
        outputs: The family's outputs; needed where a route is more than its one graph.
        graphs: What each graph takes and gives, by its name; one that is not listed takes the
            family's inputs and gives its outputs.
        size_bytes: The device memory that each engine takes, by graph; 0 on a CPU.
        limit_bytes: What all loaded engines may take of it; None for no limit.
        keep: The graph whose engine leaves the device last.
    """

    routes: Mapping[str, Sequence[Stage]]
    outputs: Sequence[TensorSpec] = ()
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    size_bytes: Mapping[str, int] = field(default_factory=dict)
    limit_bytes: int | None = None
    keep: str | None = None

    @classmethod
    def of_names(cls, configurations: Iterable[str]) -> Family:
        """Returns the family whose configurations each run the graph of their own name."""
        return cls({name: (Stage(name),) for name in configurations})

    def residency(self, load: Callable[[str], Item]) -> Residency[Item]:
        """Returns what loads the graphs that the routes run.

        Args:
            load: Loads a graph's engine.

        Raises:
            ChoiceError: An engine is larger than the limit.
        """
        graphs = (stage.graph for route in self.routes.values() for stage in route)
        size_bytes = {graph: self.size_bytes.get(graph, 0) for graph in graphs}
        return Residency(load, size_bytes, self.limit_bytes, self.keep)

    def checked(self, graph: str, run: Run, inputs: Arrays) -> Outputs:
        """Returns what a graph's engine gives, which must be what the graph gives.

        Raises:
            EngineError: The outputs are not the graph's, by name, type or shape.
        """
        outputs = run(inputs)
        if graph not in self.graphs:
            return outputs
        takes, gives = self.graphs[graph].inputs, self.graphs[graph].outputs
        unfit = misfit(outputs, gives, batch_of(inputs, takes))
        if unfit is not None:
            raise EngineError(
                f"graph {graph!r}: its engine is another's: {unfit}. Build the engines again"
                " with `skipc finish`."
            )
        return outputs


def load_all(
    family: Family,
    residency: Residency[Item],
    warm_up: Callable[[str, Arrays], None],
    sample: Arrays,
    times: int,
    now_ns: Callable[[], int],
) -> dict[str, float]:
    """Loads every configuration, and warms it up by ``times`` calls.

    Args:
        family: What there is to load.
        residency: Loads its graphs.
        warm_up: Calls a configuration once, all its stages (``Runs.warm_up``).
        sample: Their inputs.
        times: How many of each configuration.
        now_ns: The clock.

    Returns:
        What the last warm-up call of each configuration took, in ms; empty without warm-up.

    Raises:
        BackendError: A configuration could not be loaded or run; the message names it.
    """
    warm_up_ms: dict[str, float] = {}
    for name, route in family.routes.items():
        try:
            for stage in route:
                residency.load(stage.graph)
            for _ in range(times):
                start_ns = now_ns()
                warm_up(name, sample)
                warm_up_ms[name] = (now_ns() - start_ns) / 1e6
        except Exception as cause:
            ours = isinstance(cause, SkipcError)
            if (ours and repr(name) in str(cause)) or not (ours or comes_from(cause)):
                raise
            raise EngineError(
                f"configuration {name!r} could not be loaded: {reason_of(cause)}"
            ) from cause
    return warm_up_ms

"""Making baselines ready: loaded, called once, and compared with the engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.errors import NumericsError
from skipc.compiler.verify.numerics import difference
from skipc.tools.trtbench.baselines.baseline import BaselineUnavailableError
from skipc.tools.trtbench.baselines.found import BaselineCalls, BaselineFound
from skipc.tools.trtbench.baselines.registry import BASELINES, OF_PYTORCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack

    from skipc.runtime.backends import Arrays, Engine
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.baselines.baseline import Baseline, Ground, Runs
    from skipc.tools.trtbench.results.summary import Summary


@dataclass(frozen=True, slots=True)
class ReadyBaseline:
    """A baseline that answers as the engines do, or why it cannot be run.

    Attributes:
        found: What is known of it before it is timed.
        runs: By configuration; empty where it cannot be run.
    """

    found: BaselineFound
    runs: Mapping[str, Runs]


def load_baselines(
    names: Sequence[str],
    ground: Ground,
    engines: Mapping[str, Engine],
    case: Arrays,
    now_ns: Callable[[], int],
    stack: ExitStack,
    step: Steps,
) -> tuple[ReadyBaseline, ...]:
    """Returns the baselines, each configuration called once.

    Args:
        names: Of ``BASELINES``.
        ground: What they are made from.
        engines: Our engines by configuration: the configurations to load, and what their
            outputs are compared with.
        case: The inputs of the first call.
        now_ns: The clock.
        stack: Closes them.
        step: Told of the steps.

    Raises:
        NumericsError: One answers otherwise than our engines.
        CompileError: The checkpoint does not fit the bundle.
    """
    found = []
    for name in names:
        step(f"loading the baseline {name}")
        try:
            baseline = BASELINES[name](ground)
            stack.callback(baseline.close)
            found.append(_loaded(name, baseline, ground, engines, case, now_ns))
        except BaselineUnavailableError as reason:
            found.append(ReadyBaseline(BaselineFound(name, str(reason), ()), {}))
    return tuple(found)


def lanes(baselines: Sequence[ReadyBaseline]) -> dict[str, Runs]:
    """Returns what takes turns with the engines, by a name that no configuration has."""
    return {
        _lane(baseline.found.name, configuration): runs
        for baseline in baselines
        for configuration, runs in baseline.runs.items()
    }


def with_latencies(
    ready: ReadyBaseline, summary_of: Callable[[str], Summary | None]
) -> BaselineFound:
    """Returns what was found of a baseline, latencies included.

    Args:
        ready: The baseline.
        summary_of: Gives the latencies of a lane of the loop.
    """
    found = ready.found
    configurations = tuple(
        BaselineCalls(
            each.configuration,
            each.load_ms,
            each.first_call_ms,
            each.relative_error,
            summary_of(_lane(found.name, each.configuration)),
        )
        for each in found.configurations
    )
    return BaselineFound(found.name, found.not_run, configurations)


def _lane(baseline: str, configuration: str) -> str:
    return f"{baseline}:{configuration}"  # no configuration's name has a colon


def _loaded(
    name: str,
    baseline: Baseline,
    ground: Ground,
    engines: Mapping[str, Engine],
    case: Arrays,
    now_ns: Callable[[], int],
) -> ReadyBaseline:
    entries = {entry.name: entry for entry in ground.bundle.manifest.configurations}
    runs: dict[str, Runs] = {}
    configurations = []
    for configuration, engine in engines.items():
        loaded = baseline.load(configuration)
        start_ns = now_ns()
        outputs = loaded.runs.run(case)
        first_call_ms = max(now_ns() - start_ns, 1) / 1e6
        error = difference([dict(outputs)], [engine.run(case)]).relative_error
        # Each of the two may be that far from the reference, to either side.
        tolerance = 2 * entries[configuration].verification.tolerance
        if not error <= tolerance:  # NaN must be refused
            raise NumericsError(_answers_otherwise(name, configuration, error, tolerance))
        runs[configuration] = loaded.runs
        configurations.append(
            BaselineCalls(configuration, loaded.load_ms, first_call_ms, error, None)
        )
    return ReadyBaseline(BaselineFound(name, "", tuple(configurations)), runs)


def _answers_otherwise(name: str, configuration: str, error: float, tolerance: float) -> str:
    advice = (
        " Give --checkpoint, --front, --model and --model-arg as the bundle was built, or"
        if name in OF_PYTORCH
        else ""
    )
    leave = "leave it out of --baseline."
    return (
        f"baseline {name!r}, configuration {configuration!r}: its outputs differ from the"
        f" engine's by {error:.3g} of their range, more than {tolerance:.3g}, twice the"
        " tolerance that the bundle was verified with. Times of different answers are not"
        f" compared.{advice or ' Please report it, or'} {leave}"
    )

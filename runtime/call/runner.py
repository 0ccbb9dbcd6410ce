"""One call: on the engine that was chosen, or on another one if that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ..errors import InputError
from .nan_outputs import NotFiniteError
from .record import failure_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..backends import Arrays, Outputs
    from .chain import Runs
    from .controller import Controller
    from .nan_outputs import OutputChecker
    from .record import BegunCall
    from .watchdog import Watchdog


@final
class Runner:
    """Runs the configurations that the controller chooses.

    Args:
        runs: What each configuration runs.
        control: Chooses, and learns from what calls took.
        outputs: Looks at outputs.
        watchdog: Looks for calls that hang; None does not.
        now_ns: The clock.
    """

    def __init__(
        self,
        runs: Runs,
        control: Controller,
        outputs: OutputChecker,
        watchdog: Watchdog | None,
        now_ns: Callable[[], int],
    ) -> None:
        self._plain, self._chains = runs.plain, runs.chains
        self._control = control
        self._outputs = outputs
        self._watchdog = watchdog
        self._now_ns = now_ns

    def call(self, arrays: Arrays, deadline_ms: float | None) -> Outputs:
        """Returns the outputs of the configuration that is chosen now.

        If its engine fails, the next cheaper configuration runs once in its place.

        Args:
            arrays: Every input by name, already checked.
            deadline_ms: What this call may take instead of the budget's latency.

        Raises:
            EngineError: The engine failed, and so did the one tried in its place.
        """
        now_ns = self._now_ns()
        begun = self._control.begin(now_ns, deadline_ms)
        try:
            return self._run(begun, arrays, now_ns)
        except InputError:
            raise
        except Exception as failure:
            return self._run_instead(begun, arrays, failure)

    def _run(self, begun: BegunCall, arrays: Arrays, begun_ns: int) -> Outputs:
        start_ns = end_ns = begun_ns
        ticket, ran, failure, stage, alike = 0, False, "interrupted", 0, True
        name, watchdog = begun.configuration, self._watchdog
        try:
            if watchdog is not None:
                ticket = watchdog.begin(name)
            start_ns = end_ns = self._now_ns()
            run = self._plain.get(name)
            if run is not None:
                outputs = run(arrays)
            else:
                outputs, stage, alike = self._chains[name].run(arrays)
            end_ns = self._now_ns()
            ran = True
            self._outputs.check(name, outputs)
            failure = ""
        except BaseException as error:
            if not ran:
                end_ns = self._now_ns()
            failure = failure_text(error)
            raise
        finally:
            try:
                if watchdog is not None and ticket:
                    watchdog.end(ticket)
            finally:
                latency_ms = (end_ns - start_ns) / 1e6
                self._control.end(begun, end_ns, latency_ms, failure, ran, stage, alike)
        return outputs

    def _run_instead(self, failed: BegunCall, arrays: Arrays, failure: Exception) -> Outputs:
        now_ns = self._now_ns()
        instead = self._control.stand_in(failed, now_ns)
        if instead is not None:
            try:
                outputs = self._run(instead, arrays, now_ns)
            except Exception:
                pass  # Both failed on these inputs: what was asked for first says more.
            else:
                if not isinstance(failure, NotFiniteError):
                    self._control.mark_bad(
                        failed.configuration, failure, instead.configuration
                    )
                return outputs
        try:
            raise failure
        finally:
            # It holds this frame, which holds it: the inputs would stay until a collection.
            del failure

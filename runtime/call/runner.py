"""One call: on the engine that was chosen, or on another one if that fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, final

from ..errors import InputError, SkipcError
from ..executing import let_go
from .arrays import NotFiniteError
from .lifetime import say_back
from .record import PLAIN, Way, failure_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import RLock

    from ..backends import Arrays, Outputs, Run
    from .arrays import OutputChecker
    from .chain import Runs
    from .controller import Controller
    from .lifetime import ActiveCall, InFlight
    from .record import BegunCall


@final
class Runner:
    """Runs the configurations that the controller chooses.

    An exception may come between any two instructions of a call. It leaves the call as it is,
    and nothing behind: ``InFlight`` tells by itself that the call has ended. ``locks`` are
    what a call may hold for a moment.
    """

    def __init__(
        self,
        runs: Runs,
        control: Controller,
        outputs: OutputChecker,
        in_flight: InFlight,
        locks: Sequence[RLock],
        now_ns: Callable[[], int],
    ) -> None:
        self._plain, self._chains = runs.plain, runs.chains
        self._control = control
        self._outputs = outputs
        self._in_flight, self._locks = in_flight, locks
        self._now_ns = now_ns

    def add(self, configuration: str, run: Run) -> None:
        """Takes what runs one more configuration."""
        self._plain = {**self._plain, configuration: run}

    def call(
        self,
        arrays: Arrays,
        deadline_ms: float | None,
        hard: bool | None = None,
        sizes: tuple[int, ...] = (),
    ) -> Outputs:
        """Returns the outputs of the configuration that is chosen now.

        If its engine fails, the next cheaper configuration runs once in its place. What else
        is raised meanwhile, by a signal's handler or by another thread, is the application's.

        Raises:
            EngineError: The engine failed, and so did the one tried in its place.
            BudgetError: ``strict`` is set and nothing is predicted to fit.
            ClosedError: The engine was closed.
        """
        try:
            call = self._in_flight.begin(sys._getframe())
            now_ns = self._now_ns()
            begun = self._control.begin(now_ns, deadline_ms, hard, sizes)
            try:
                return self._run(call, begun, arrays, now_ns)
            except InputError:
                raise
            except SkipcError as failure:
                return self._run_instead(call, begun, arrays, failure)
        except BaseException:
            if not self._in_flight.is_within(sys._getframe()):
                for lock in self._locks:
                    let_go(lock)
            raise
        finally:
            self._in_flight.end(sys._getframe())

    def _run(
        self, call: ActiveCall, begun: BegunCall, arrays: Arrays, begun_ns: int
    ) -> Outputs:
        start_ns = end_ns = begun_ns
        ran, failure, way = False, "interrupted", PLAIN
        name = begun.decision.configuration
        try:
            start_ns = end_ns = self._now_ns()
            call.starts(name, start_ns)
            run = self._plain.get(name)
            if run is not None:
                outputs = run(arrays)
            else:
                limit_ms, stages_ms = begun.limit_ms, begun.stages_ms
                until_ns = begun_ns + round(limit_ms * 1e6) if stages_ms and limit_ms else None
                chain = self._chains[name]
                bias = begun.decision.bias
                reached = chain.run(arrays, until_ns, stages_ms, bias)
                outputs, way = reached.outputs, Way(*reached[1:])
            end_ns = self._now_ns()
            ran = True
            if self._outputs.looks:
                self._outputs.check(name, outputs)
            failure = ""
        except BaseException as error:
            if not ran:
                end_ns = self._now_ns()
            failure = failure_text(error)
            raise
        finally:
            call.start_ns = None
            latency_ms = (end_ns - start_ns) / 1e6
            if call.hangs:
                say_back(call, latency_ms)
            self._control.end(begun, end_ns, latency_ms, failure, ran, way)
        return outputs

    def _run_instead(
        self, call: ActiveCall, failed: BegunCall, arrays: Arrays, failure: SkipcError
    ) -> Outputs:
        now_ns = self._now_ns()
        instead = self._control.stand_in(failed, now_ns)
        if instead is not None:
            try:
                outputs = self._run(call, instead, arrays, now_ns)
            except SkipcError:
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

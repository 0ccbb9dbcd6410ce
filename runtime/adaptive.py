"""The engine that an application calls: many configurations, one of them per call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from threading import Condition
from typing import TYPE_CHECKING, Any, final, overload

from .budget import Budget, checked_budget
from .bundle import Bundle
from .clock import SystemClock
from .errors import BudgetError, ChoiceError, ClosedError, choices_text
from .governor import estimate_after, observe
from .inputs import InputChecker
from .loading import load_all
from .opening import bundle_backend
from .points import operating_points, points_by_name, ranked_by
from .readiness import choose
from .stats import CallRecord, EngineStats, configuration_stats

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from .backends import Backend
    from .clock import Clock
    from .governor import OperatingPoint
    from .manifest import BatchRange, TensorSpec
    from .readiness import Choice

WARM_UP_RUNS = 2


@final
class AdaptiveEngine:
    """All configurations of a family, loaded; each call runs the one its budget allows.

    Make one with ``AdaptiveEngine.open``, or from parts of your own as below. Calls may come
    from several threads at once; each runs in its caller's thread.

    Args:
        points: What the governor knows of each configuration.
        inputs: The network's inputs.
        backend: Loads and runs the configurations. It belongs to the engine from now on: it
            is closed with it, or if anything is raised here.
        batch: The sizes of the dynamic batch; None where no shape has one.
        budget: What a call may take; None for no limit.
        strict: Whether a call that no configuration is predicted to fit raises
            ``BudgetError`` instead of running the one predicted to be fastest.
        nan: ``pass`` lets NaN and infinity through; ``raise`` refuses them.
        clock: Where latency is read from; None for the monotonic clock.
        warm_up: Inputs of the warm-up calls, by name; None for zeros.
        warm_up_runs: Calls of each configuration before the first of yours; 0 for none.
        ranked_by: What the points' rank is, for ``stats()``.

    Raises:
        ChoiceError: There is no point, two have one name, or ``nan`` is not a policy.
        BackendError: A configuration could not be loaded or run; the message names it.
    """

    def __init__(
        self,
        points: Sequence[OperatingPoint],
        inputs: Sequence[TensorSpec],
        backend: Backend,
        *,
        batch: BatchRange | None = None,
        budget: Budget | None = None,
        strict: bool = False,
        nan: str = "pass",
        clock: Clock | None = None,
        warm_up: Mapping[str, NDArray[Any]] | None = None,
        warm_up_runs: int = WARM_UP_RUNS,
        ranked_by: str = "rank",
    ) -> None:
        with ExitStack() as stack:
            stack.callback(backend.close)
            self._points = points_by_name(points)
            self._checker = InputChecker(inputs, batch, nan, backend.takes_device_arrays)
            self._budget = checked_budget(budget)
            self._now_ns = (SystemClock() if clock is None else clock).now_ns
            sample = self._checker.sample() if warm_up is None else warm_up
            loaded = load_all(backend, self._points, sample, warm_up_runs, self._now_ns, stack)
            self._sharing = backend.sharing()
            self._resources = stack.pop_all()
        self._backend = backend
        self._engines = loaded.engines
        self._order = tuple(points)
        self._estimate = estimate_after(points, loaded.warm_up_ms)
        self._strict = strict
        self._ranked_by = ranked_by
        self._pinned: str | None = None
        self._last: CallRecord | None = None
        self._previous: str | None = None
        self._calls = dict.fromkeys(self._points, 0)
        self._switches = self._infeasible = self._in_flight = 0
        self._closed = False
        self._lock = Condition()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        budget: Budget | None = None,
        target: str | None = None,
        threads: int | None = None,
        strict: bool = False,
        nan: str = "pass",
        *,
        clock: Clock | None = None,
        device_bytes: int | None = None,
    ) -> AdaptiveEngine:
        """Returns an engine over a bundle, every configuration loaded and warmed up.

        Args:
            path: The bundle's folder.
            budget: What a call may take; None for no limit.
            target: Whose engines to use; None for the only ones there, or the first by name
                that fit this host. ``null`` needs no engines: outputs are zeros, latencies
                those of ``front.json`` (else proportional to the MACs) on a fake clock.
            threads: Threads that a call runs on; None for the backend's default.
            strict: Whether a call that nothing fits raises instead of running the fastest.
            nan: ``pass`` lets NaN and infinity in inputs through; ``raise`` refuses them.
            clock: Where latency is read from; None for the monotonic clock.
            device_bytes: Most GPU memory that loaded engines may take together; the rest are
                loaded when they are wanted. None keeps all of them loaded.

        Raises:
            BundleError: There is no usable bundle, or it has no engines for ``target``.
            BackendError: The engines do not fit this host, their library is missing, or
                one could not be loaded.
            ChoiceError: ``threads``, ``nan`` or ``device_bytes`` is not valid.
            BudgetError: ``budget`` is not a ``Budget``.
        """
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ChoiceError(f"threads={threads!r}: expected a whole number from 1, or None.")
        if device_bytes is not None and (type(device_bytes) is not int or device_bytes < 1):
            raise ChoiceError(
                f"device_bytes={device_bytes!r}: expected a whole number of bytes, or None."
            )
        checked_budget(budget)
        bundle = Bundle.open(path)
        warm_up = bundle.golden_inputs()[0]
        backend, engines, clock = bundle_backend(bundle, target, threads, clock, device_bytes)
        return cls(
            operating_points(bundle.manifest, engines, backend.threads),
            bundle.manifest.inputs,
            backend,
            batch=bundle.manifest.batch,
            budget=budget,
            strict=strict,
            nan=nan,
            clock=clock,
            warm_up=warm_up,
            ranked_by=ranked_by(bundle.manifest),
        )

    @overload
    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]: ...

    @overload
    def __call__(self, inputs: NDArray[Any]) -> Any: ...

    def __call__(self, inputs: object) -> Any:
        """Returns the network's outputs for ``inputs``, from the configuration chosen now.

        Args:
            inputs: An array where the network has one input, or a dict with an array for
                each. Types and shapes must be the network's; nothing is cast. An array
                that is not contiguous is copied by the backend. A backend on a GPU takes
                arrays that lie there, too (``__cuda_array_interface__``, DLPack).

        Returns:
            New arrays, which belong to the caller: a dict by output name; or, for an array
            in and a network with one output, that output's array. For arrays on the GPU:
            ``DeviceArray``, valid until the next call.

        Raises:
            InputError: ``inputs`` do not fit.
            BudgetError: ``strict`` is set and nothing is predicted to fit the budget.
            EngineError: The backend failed.
            ClosedError: The engine was closed.
        """
        self._check_open()
        arrays = self._checker.check(inputs)
        latency_ms: float | None = None
        choice, budget = self._begin()
        try:
            engine = self._engines[choice.decision.configuration]
            start_ns = self._now_ns()
            outputs = engine.run(arrays)
            latency_ms = (self._now_ns() - start_ns) / 1e6
        finally:
            self._end(choice, budget, latency_ms)
        if len(outputs) == 1 and not isinstance(inputs, Mapping):
            return next(iter(outputs.values()))
        return outputs

    def _begin(self) -> tuple[Choice, Budget]:
        with self._lock:
            self._check_open()
            budget = self._budget
            choice = choose(self._order, budget, self._estimate, self._pinned, self._engines)
            decision = choice.decision
            if not decision.feasible:
                self._infeasible += 1
                if self._strict:
                    raise BudgetError(
                        f"no call within {budget.latency_ms:g} ms: {decision.reason} Grant"
                        " more, or open the engine without strict."
                    )
            self._in_flight += 1
            if self._previous is not None and self._previous != decision.configuration:
                self._switches += 1
            self._previous = decision.configuration
        return choice, budget

    def _end(self, choice: Choice, budget: Budget, latency_ms: float | None) -> None:
        decision = choice.decision
        name = decision.configuration
        with self._lock:
            if latency_ms is not None:
                if choice.learns:
                    self._estimate = observe(self._points[name], self._estimate, latency_ms)
                self._calls[name] += 1
                self._last = CallRecord(
                    name,
                    latency_ms,
                    decision.predicted_ms,
                    budget,
                    decision.feasible,
                    decision.reason,
                )
            self._in_flight -= 1
            if self._closed:
                self._lock.notify_all()

    @property
    def configurations(self) -> tuple[str, ...]:
        """The configurations' names, in the bundle's order."""
        return tuple(self._points)

    @property
    def budget(self) -> Budget:
        """What a call may take; setting it takes effect from the next call on."""
        return self._budget

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        self._check_open()
        self._budget = checked_budget(budget)

    @property
    def last(self) -> CallRecord | None:
        """The call that finished last, in whichever thread; None before the first."""
        return self._last

    def pin(self, configuration: str | None) -> None:
        """Makes every further call run one configuration; None gives the choice back.

        Raises:
            ChoiceError: There is no such configuration.
            ClosedError: The engine was closed.
        """
        self._check_open()
        if configuration is not None and configuration not in self._points:
            raise ChoiceError(
                f"there is no configuration {configuration!r}."
                f" {choices_text(str(configuration), self._points)}"
            )
        self._pinned = configuration

    def stats(self) -> EngineStats:
        """Returns counts, factors and sizes as they are now; works after ``close()`` too."""
        with self._lock:
            estimate, calls = self._estimate, dict(self._calls)
            switches, infeasible = self._switches, self._infeasible
        return EngineStats(
            backend=self._backend.name,
            threads=self._backend.threads,
            ranked_by=self._ranked_by,
            calls=sum(calls.values()),
            switches=switches,
            infeasible_calls=infeasible,
            slowdown=estimate.slowdown,
            sharing=self._sharing,
            residency=self._backend.counts,
            configurations=configuration_stats(self._order, estimate, calls),
        )

    def close(self) -> None:
        """Waits for the calls in flight, then frees everything. May be called again."""
        with self._lock:
            self._closed = True
            self._lock.wait_for(lambda: self._in_flight == 0)
            resources = self._resources.pop_all()
        resources.close()

    def __enter__(self) -> AdaptiveEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(
                "the engine was closed. Open it again: AdaptiveEngine.open(...)."
            )

"""What an application does with an open engine: call it, steer it, ask it, close it."""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from collections.abc import Mapping
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from numpy import ndarray

from ..errors import ClosedError
from ..executing import let_go
from ..governor.budget import checked_deadline_ms, checked_hard
from .lifetime import free
from .stats import predicted_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from numpy.typing import NDArray

    from ..bundle.certificate import Certificate, Limit
    from ..bundle.tensors import Sizes
    from ..governor.budget import Budget
    from .additions import Additions
    from .arrays import InputChecker
    from .controller import Controller
    from .lifetime import InFlight
    from .orders import Orders
    from .record import CallRecord
    from .runner import Runner
    from .stats import EngineStats


class OpenEngine:
    """``AdaptiveEngine`` once it is open.

    It frees its ``resources`` once: when it is closed or collected, or at exit, but never in
    a fork of the process that made it.
    """

    _closed = True

    def __init__(
        self,
        inputs: InputChecker,
        orders: Orders,
        control: Controller,
        runner: Runner,
        in_flight: InFlight,
        stats: Callable[[], EngineStats],
        resources: ExitStack,
        certificates: Mapping[str, Certificate],
        additions: Additions,
    ) -> None:
        self._inputs, self._orders = inputs, orders
        self._control, self._runner, self._stats = control, runner, stats
        self._in_flight, self._resources = in_flight, resources
        self._certificates, self._additions = certificates, additions
        self._process = os.getpid()
        self._freeing = RLock()
        self._forgotten = weakref.finalize(self, free, in_flight, resources, self._process)
        self._closed = False

    @overload
    def __call__(
        self,
        inputs: Mapping[str, NDArray[Any]],
        deadline_ms: float | None = None,
        hard: bool | None = None,
    ) -> dict[str, NDArray[Any]]: ...

    @overload
    def __call__(
        self, inputs: NDArray[Any], deadline_ms: float | None = None, hard: bool | None = None
    ) -> Any: ...

    def __call__(
        self, inputs: object, deadline_ms: float | None = None, hard: bool | None = None
    ) -> Any:
        """Returns the network's outputs for ``inputs``, from the configuration chosen now.

        Args:
            inputs: An array where the network has one input, or a dict with an array for
                each. Types and shapes must be the network's; nothing is cast. An array
                that is not contiguous is copied by the backend. A backend on a GPU takes
                arrays that lie there, too (``__cuda_array_interface__``, DLPack).
            deadline_ms: What this call may take, instead of the budget's ``latency_ms``.
            hard: Whether a route of several stages stops in time and answers with what it
                has, instead of what the budget says (``Budget.hard``).

        Returns:
            New arrays, which belong to the caller: a dict by output name; or, for an array
            in and a network with one output, that output's array. For arrays on the GPU:
            ``DeviceArray``, valid until the next call.

        Raises:
            InputError: ``inputs`` do not fit.
            BudgetError: ``strict`` is set and nothing is predicted to fit the budget, or
                ``deadline_ms`` or ``hard`` is not one.
            EngineError: The engine failed, and so did the one tried in its place.
            ClosedError: The engine was closed, or opened before a fork.
        """
        if os.getpid() != self._process or self._in_flight.closed:
            self._check_open()
        arrays = self._inputs.check(inputs)
        if deadline_ms is not None:
            deadline_ms = checked_deadline_ms(deadline_ms)
        if hard is not None:
            hard = checked_hard(hard)
        sizes = self._inputs.sizes(arrays) if self._inputs.dynamic else ()
        outputs = self._runner.call(arrays, deadline_ms, hard, sizes)
        if len(outputs) == 1 and (type(inputs) is ndarray or not isinstance(inputs, Mapping)):
            return next(iter(outputs.values()))
        return outputs

    @property
    def configurations(self) -> tuple[str, ...]:
        """The configurations' names, in the bundle's order."""
        return tuple(self._control.points)

    def predict_ms(self, sizes: Sizes = MappingProxyType({})) -> dict[str, float]:
        """Returns what a call is expected to stay within now, in ms, by configuration.

        As surely as the budget's quantile says, and of those that may run: neither of those
        that failed, nor below ``min_accuracy``.

        Args:
            sizes: Of free dimensions, by name; what is left out has its typical size.

        Raises:
            InputError: There is no such dimension.
            ClosedError: The engine was closed.
        """
        self._check_open()
        return predicted_ms(self._control, self._orders, self._inputs.all_sizes(sizes))

    def add(self, name: str, skip: Sequence[str], *, accuracy: float | None = None) -> None:
        """Adds a configuration that the bundle does not have, without loading anything.

        Only where one engine runs all configurations (``skipc build --engines one``): any
        setting of its switches is one. Nobody has compared this one with the reference
        network, or measured it: its latency is predicted as a sum over the units that run,
        from the configurations that were measured, and learnt from its calls.

        Args:
            name: What it is to be called.
            skip: The units that it skips, or modules that hold some, of those that a
                configuration of the bundle skips.
            accuracy: What it is ranked by; needed where the others have one.

        Raises:
            ChoiceError: A unit is none that the engine can skip, the name is taken, another
                configuration skips the same, or each has an engine of its own.
            ClosedError: The engine was closed.
        """
        self._check_open()
        self._additions.add(name, skip, accuracy)

    @property
    def budget(self) -> Budget:
        """What a call may take; setting it takes effect from the next call on."""
        return self._orders.budget

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        self._check_open()
        self._orders.budget = budget

    @property
    def last(self) -> CallRecord | None:
        """The call that finished last, in whichever thread; None before the first."""
        return self._control.last

    def limit_of(self, call: CallRecord) -> Limit | None:
        """Returns what was certified of calls like this one of the engine; None if nothing.

        It is the route's limit where its tests or its end stopped the call, and the cut
        exit's where a hard deadline did; nothing where the bias of a router was moved. It is a
        statement about all inputs that such calls are made with, not about those alone that
        were cut: they are the harder ones.
        """
        certificate = self._certificates.get(call.configuration)
        if certificate is None or call.failure or call.decision.bias is not None:
            return None
        return certificate.limit_of_call(call.stage, call.stopped_by)

    def trace(self) -> tuple[CallRecord, ...]:
        """Returns the last calls that finished, oldest first: ten thousand at most.

        ``runtime.call.trace`` makes a file of them for ``skipc trace``.
        """
        self._check_here()
        return self._control.records()

    def pin(self, configuration: str | None) -> None:
        """Makes every further call run one configuration; None gives the choice back.

        Raises:
            ChoiceError: There is no such configuration.
            ClosedError: The engine was closed.
        """
        self._check_open()
        self._orders.pin(configuration)

    def restore(self, configuration: str) -> None:
        """Takes a configuration back that was left out because it failed (``stats().bad``).

        Raises:
            ChoiceError: There is no such configuration.
            ClosedError: The engine was closed.
        """
        self._check_open()
        self._control.restore(configuration)

    def stats(self) -> EngineStats:
        """Returns counts, factors and sizes as they are now; works after ``close()`` too."""
        self._check_here()
        return self._stats()

    def close(self) -> None:
        """Waits for the calls in flight, then frees everything. May be called again.

        A call that hangs cannot be stopped, so this waits for it: end the process instead
        (``os._exit``). After a fork, the child's does nothing.

        Raises:
            ClosedError: It was called from inside of a call, as by a signal's handler: it
                would wait for itself.
            ModeError: The power mode that was in force before cannot be brought back;
                everything is freed all the same.
        """
        self._closed = True
        if os.getpid() != self._process:
            return
        if self._in_flight.is_within(sys._getframe()):
            raise ClosedError(
                "close() was called from inside of a call, as by a signal's handler, and would"
                " wait for that call for ever. Let the handler raise, or set a flag, and close"
                " once the call has ended."
            )
        try:
            self._in_flight.close()
            with self._freeing:
                self._resources.close()  # each once, also if an exception comes between two
                self._forgotten.detach()
        except BaseException:
            let_go(self._freeing)
            raise

    def _check_here(self) -> None:
        if os.getpid() != self._process:
            raise ClosedError(
                "the process was forked after the engine was opened, which leaves the"
                " engine's threads behind. Open an engine in the child."
            )

    def _check_open(self) -> None:
        self._check_here()
        self._in_flight.check_open()

    def __del__(self) -> None:
        if not self._closed and os.getpid() == self._process:
            warnings.warn(
                "an AdaptiveEngine was never closed: use `with AdaptiveEngine.open(...)`, or"
                " call close().",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

"""How the engine that an application calls is put together: from a bundle, or from parts."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, final

from .bundle.folder import Bundle
from .call.additions import Additions
from .call.arrays import InputChecker, OutputChecker
from .call.chain import runs_of
from .call.controller import Controller
from .call.drawn import DrawingChecker
from .call.in_modes import ControllerInModes
from .call.lifetime import InFlight, start_watchdog
from .call.metering import Metering
from .call.mode_changer import changer_for
from .call.open_engine import OpenEngine
from .call.orders import Orders
from .call.readiness import Readiness
from .call.runner import Runner
from .call.stats import engine_stats
from .clock import SystemClock
from .governor import first_state
from .governor.budget import checked_budget
from .governor.modes import first_modes
from .governor.sizes import CallSizes
from .load.opening import (
    Family,
    bundle_backend,
    family_of,
    load_all,
    part_of,
    started_sampler,
)
from .load.points import check_stages, points_by_name, points_here, ranked_by
from .options import checked_count, checked_flag, checked_hang_ms, checked_idle_w

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .backends import Backend
    from .bundle.prologue import Draw
    from .bundle.tensors import Dimension, TensorSpec
    from .call.mode_changer import Changer
    from .clock import Clock
    from .governor import OperatingPoint
    from .governor.budget import Budget
    from .meters import Sampler

WARM_UP_RUNS = 2


@final
class AdaptiveEngine(OpenEngine):
    """All configurations of a family, loaded; each call runs the one its budget allows.

    Make one with ``AdaptiveEngine.open``, or from parts of your own as below. Calls may come
    from several threads at once; each runs in its caller's thread. What else is raised in a
    call, by Ctrl-C or a signal's handler, reaches the caller and leaves nothing in flight.

    After a fork, the child must open an engine of its own, and end with ``os._exit`` unless it
    runs on Linux with glibc. At the process's end the calls of daemon threads have a second.

    An engine that fails is left out if another one then runs on the same inputs
    (``stats().bad``, ``restore``). A call that hangs cannot be stopped from here: ``close``
    waits for it (``hang_ms``, ``stats().hanging``).

    The options that ``open`` has, too, are described there.

    Args:
        points: What the governor knows of each configuration.
        inputs: The network's inputs.
        backend: Loads and runs the graphs. It belongs to the engine from now on: it is closed
            with it, or if anything is raised here.
        dimensions: The sizes of the free dimensions that shapes name.
        warm_up: Inputs of the warm-up calls, by name; None for zeros.
        warm_up_runs: Calls of each configuration before the first of yours; 0 for none.
        ranked_by: What the points' rank is, for ``stats()``; ``min_accuracy`` needs
            ``accuracy``.
        sampler: Reads an energy meter in the background. It belongs to the engine like the
            backend; None without a meter.
        family: The graphs that the configurations run; None where each runs the one of its
            own name.
        draws: The inputs that are drawn for each call, where they are not given.
        modes: Changes the device's power mode, in whose mode now the ``points`` are. It
            belongs to the engine like the backend; None where nothing does.

    Raises:
        ChoiceError: There is no point, two have one name, or an option is not one of its
            choices.
        BackendError: A configuration could not be loaded or run; the message names it.
        BudgetError: ``budget`` is not a budget, or asks for what is not known here.
    """

    def __init__(
        self,
        points: Sequence[OperatingPoint],
        inputs: Sequence[TensorSpec],
        backend: Backend,
        *,
        dimensions: Sequence[Dimension] = (),
        budget: Budget | None = None,
        strict: bool = False,
        nan: str = "pass",
        nan_outputs: str = "pass",
        clock: Clock | None = None,
        warm_up: Mapping[str, NDArray[Any]] | None = None,
        warm_up_runs: int = WARM_UP_RUNS,
        ranked_by: str = "rank",
        sampler: Sampler | None = None,
        idle_w: float | None = None,
        hang_ms: float | None = None,
        family: Family | None = None,
        draws: Sequence[Draw] = (),
        modes: Changer | None = None,
    ) -> None:
        with ExitStack() as stack:
            if modes is not None:
                stack.callback(modes.close)
            if sampler is not None:
                stack.callback(sampler.close)
            stack.callback(backend.close)
            named = points_by_name(points)
            checked_budget(budget)  # before the engines are loaded
            checker = InputChecker(inputs, dimensions, nan)
            if draws:
                checker = DrawingChecker(inputs, dimensions, nan, draws)
            outputs, limit_ms = OutputChecker(nan_outputs), checked_hang_ms(hang_ms)
            strict, watts = checked_flag("strict", strict), checked_idle_w(idle_w)
            now_ns = (SystemClock() if clock is None else clock).now_ns
            family = Family.of_names(named) if family is None else family
            check_stages(named, family.routes)
            held = family.residency(backend.load)
            stack.callback(held.close)
            runs = partial(runs_of, family, inputs, dimensions, held, now_ns)
            sample = checker.sample() if warm_up is None else warm_up
            warm_up_ms = load_all(family, held, runs().warm_up, sample, warm_up_runs, now_ns)
            state = first_state(points, warm_up_ms, sampler is not None, watts)
            known = bool(state.energy.call_mj)
            orders = Orders(named, ranked_by, known, budget, strict)
            metering = None if sampler is None else Metering(sampler)
            loaded = None if held.all_stay else Readiness.of(family.routes, held)
            calls = InFlight()
            typical = [each.typical for each in dimensions]
            sizes = CallSizes(typical, points) if typical else None
            parts = named, state, orders, calls, metering, loaded, now_ns(), sizes
            mode_stats = None
            if modes is None:
                control = Controller(*parts)
            else:
                first = first_modes(modes.modes, modes.now, sampler is not None, watts)
                control = in_modes = ControllerInModes(modes.modes, first, *parts)
                modes.serve(in_modes, now_ns)
                mode_stats = in_modes.mode_stats
            start_watchdog(limit_ms, now_ns, calls, stack)
            locks = control.lock, held.lock
            runner = Runner(runs(), control, outputs, calls, locks, now_ns)
            sharing = backend.sharing()
            stats = partial(engine_stats, control, orders, backend, sharing, held, mode_stats)
            additions = Additions(family.switchable, held.runs, control, orders, runner)
            resources = stack.pop_all()
        shown = family.certificates
        super().__init__(
            checker, orders, control, runner, calls, stats, resources, shown, additions
        )

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
        nan_outputs: str = "pass",
        meter: str | None = None,
        idle_w: float | None = None,
        hang_ms: float | None = None,
        quick: bool = False,
        part: str | None = None,
        modes: Sequence[str] = (),
    ) -> AdaptiveEngine:
        """Returns an engine over a bundle, every configuration loaded and warmed up.

        Args:
            path: The bundle's folder.
            budget: What a call may take; None for no limit.
            target: Whose engines to use; None for the only ones there, or the first by name
                that fit this host. ``null`` needs no engines: outputs are zeros, latencies
                those of ``front.json`` (else proportional to the MACs) on a fake clock.
            threads: Threads that a call runs on; None for the backend's default.
            strict: Whether a call that no configuration is predicted to fit raises
                ``BudgetError`` instead of running the one predicted to be fastest.
            nan: ``pass`` lets NaN and infinity in inputs through; ``raise`` refuses them.
            clock: Where latency is read from; None for the monotonic clock.
            device_bytes: Most GPU memory that loaded engines may take together; the rest are
                loaded when they are wanted. None keeps all of them loaded.
            nan_outputs: What happens when a network computes NaN or infinity: ``pass`` does
                not look, ``warn`` logs it once for each configuration, ``fall-back`` runs the
                next cheaper configuration instead.
            meter: The energy meter: ``auto`` for the best that this machine has, or one as
                ``skipc meters`` lists them, e.g. ``rapl``. None for none; energies are then
                those of ``front.json``.
            idle_w: What the device draws while nothing runs, in watts (``skipc meters`` says
                so on a device at rest); None lets the meter find out, which takes minutes
                where calls come at a steady pace.
            hang_ms: How long a call may take before it is reported to hang, and other calls
                avoid its configuration while it does; None does not look. It cannot be
                stopped: ``close`` waits for it.
            quick: Whether the first answer is to come soon: engines for the CPU are then
                loaded with their weights unpacked and not warmed up. Once one has answered, a
                packed one takes its place in the background; until then calls take longer and
                round otherwise.
            part: ``client`` or ``server``, of a bundle whose prologue is apart: what the
                client runs gives what the server takes. None for any other bundle.
            modes: Power modes of this device that the governor may change between, as
                ``skipc targets --modes`` names them; what was in force comes back when the
                engine is closed. Empty leaves the device as it is.

        Raises:
            BundleError: There is no usable bundle, or it has no engines for ``target``.
            BackendError: The engines do not fit this host, their library is missing, or
                one could not be loaded.
            ChoiceError: An option is not one of its choices.
            BudgetError: ``budget`` is not a ``Budget``, or asks for what is not known here.
            MeterError: There is no such meter here, or it cannot be read.
            ModeError: A mode is none of this device's, was not measured here, or may not be
                set by this user.
        """
        threads = checked_count("threads", threads)
        device_bytes = checked_count("device_bytes", device_bytes)
        checked_budget(budget)
        bundle = part_of(Bundle.open(path), part)
        warm_up = bundle.golden_inputs()[0]
        with ExitStack() as stack:
            backend, engines, clock = bundle_backend(
                bundle, target, threads, clock, device_bytes, checked_flag("quick", quick)
            )
            stack.callback(backend.close)
            changer = None
            if modes:
                changer = changer_for(bundle, engines, backend.threads, modes)
                stack.callback(changer.close)
                points = changer.points
            else:
                points = points_here(bundle, engines, backend.threads)
            family = family_of(bundle, engines, device_bytes)
            # On the clock of the calls, which is not the system's for the null backend.
            sampler = None if meter is None else started_sampler(meter, clock)
            prologue = bundle.manifest.prologue
            stack.pop_all()  # from here on both belong to the engine
        engine = cls(
            points,
            bundle.manifest.inputs,
            backend,
            dimensions=bundle.manifest.dimensions,
            budget=budget,
            strict=strict,
            nan=nan,
            clock=clock,
            warm_up=warm_up,
            warm_up_runs=0 if quick else WARM_UP_RUNS,
            ranked_by=ranked_by(bundle.manifest),
            nan_outputs=nan_outputs,
            sampler=sampler,
            idle_w=idle_w,
            hang_ms=hang_ms,
            family=family,
            draws=() if prologue is None else prologue.draws,
            modes=changer,
        )
        if changer is not None:
            changer.start()
        return engine

    def __enter__(self) -> AdaptiveEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

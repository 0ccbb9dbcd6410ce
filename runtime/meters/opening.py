"""Opens a meter by its spec: a kind, and what of it.

``_MODULES`` is the registry. Each module has ``open_kind(argument, clock, system)``, which
opens one, and ``specs(system)``, which names those that this machine has; ``system`` is where
sysfs is mounted. Both raise ``MeterUnavailableError`` where the machine lacks what is read, or
the user the right to, and ``MeterError`` where it cannot be read now or is named wrongly.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from ..clock import SystemClock
from ..errors import MeterError, MeterUnavailableError, choices_text, sentence

if TYPE_CHECKING:
    from ..clock import Clock
    from .meter import Meter

_MODULES: dict[str, str] = {
    "hwmon": ".hwmon",
    "nvml": ".nvml",
    "rapl": ".rapl",
    "model": ".model",
}

# What "auto" tries, the best first: a Jetson's rails cover the whole module, a GPU's counter
# more of an inference than the processor's.
MEASURING: tuple[str, ...] = ("hwmon", "nvml", "rapl")

_LOG = logging.getLogger(__name__)

_AUTO = "auto"
_SYSTEM = Path("/sys")


class _Kind(Protocol):
    def open_kind(self, argument: str, clock: Clock, system: Path) -> Meter: ...

    def specs(self, system: Path) -> tuple[str, ...]: ...


def open_meter(spec: str, clock: Clock | None = None, system: Path = _SYSTEM) -> Meter:
    """Returns the meter that ``spec`` names.

    Args:
        spec: ``hwmon`` (a Jetson's total), ``hwmon:LABEL`` or ``hwmon:A+B`` (power rails),
            ``nvml`` or ``nvml:PCI-BUS-ID`` (an NVIDIA GPU), ``rapl`` (an Intel or AMD
            processor), ``model:WATTS`` (nothing measured), or ``auto``: the first of the
            measuring kinds that can be used here.
        clock: Where the readings' times come from; None for the system's.
        system: Where sysfs is mounted.

    Raises:
        MeterUnavailableError: This machine lacks what it reads, or you the right to.
        MeterError: There is no such kind of meter, or it cannot be read now.
    """
    if not isinstance(spec, str):
        raise MeterError(f"meter={spec!r} is not a text, such as 'auto' or 'rapl'.")
    used = SystemClock() if clock is None else clock
    if spec == _AUTO:
        return _open_best(used, system)
    kind, colon, argument = spec.partition(":")
    if kind not in _MODULES:
        raise MeterError(f"unknown meter {spec!r}. {choices_text(kind, (*_MODULES, _AUTO))}")
    if colon and not argument:
        raise MeterError(
            f"the meter {spec!r} ends in a colon. Leave it out, or say what of it."
        )
    return _module(kind).open_kind(argument, used, system)


def meter_specs(kind: str, system: Path = _SYSTEM) -> tuple[str, ...]:
    """Returns the specs of the meters of one of the ``MEASURING`` kinds that this machine has.

    Raises:
        MeterUnavailableError: It has none.
        MeterError: It cannot be told now.
    """
    return _module(kind).specs(system)


def _open_best(clock: Clock, system: Path) -> Meter:
    reasons = []
    for kind in MEASURING:
        try:
            meter = _module(kind).open_kind("", clock, system)
        except MeterError as error:
            reasons.append(f"{kind}: {error}")
        else:
            passed_over = " ".join(reasons) or "none better was passed over"
            _LOG.info("meter %s is taken. %s", meter.name, passed_over)
            return meter
    raise MeterUnavailableError(
        f"no meter can be used here. {sentence(' '.join(reasons))} To take a power for"
        " granted: 'model:WATTS'."
    )


def _module(kind: str) -> _Kind:
    return cast("_Kind", importlib.import_module(_MODULES[kind], __package__))

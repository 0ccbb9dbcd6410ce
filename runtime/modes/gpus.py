"""Limits of an NVIDIA GPU on a card, asked of NVML: its power, and its graphics clock.

NVML tells a power limit. It does not tell a clock that was locked: what was locked before is
not known, and put back is the driver's own range.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MeterError, ModeError
from ..meters import nvml
from .actuators import ROOT, Offer, Setting, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from .actuators import Actuator

KIND = "nvml"

_WORD = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(MHz|W)", re.ASCII)
_POWER, _CLOCK = "power_mw", "clock_mhz"
_UNLOCKED = "0"
_SLACK_MW = 500  # drivers round to whole watts
_SLACK_MHZ = 15  # a step of the clock
_LONGEST_S, _PAUSE_S = 2.0, 0.01


@dataclass(frozen=True, slots=True)
class _Gpu:
    """What a GPU's limits may be: power in mW, clocks in MHz, ascending; empty if neither."""

    handle: Any
    name: str
    power_mw: tuple[int, ...]
    clocks_mhz: tuple[int, ...]


def offers() -> list[Offer]:
    """Returns the limits of every GPU; none where NVML cannot be asked."""
    found = []
    try:
        library = nvml.started()
    except MeterError:
        return []
    try:
        gpus = _gpus(library)
        for gpu in gpus:
            alone = len(gpus) == 1
            if gpu.power_mw:
                now_mw = library.nvmlDeviceGetPowerManagementLimit(gpu.handle)
                reach = f"{gpu.power_mw[0] / 1e3:g} to {gpu.power_mw[-1] / 1e3:g} W"
                mode = f"{KIND}:{now_mw / 1e3:g}W" if alone else ""
                found.append(Offer(KIND, gpu.name, f"{now_mw / 1e3:g} W", reach, ROOT, mode))
            if gpu.clocks_mhz:
                least, most = gpu.clocks_mhz[0], gpu.clocks_mhz[-1]
                mode = f"{KIND}:{most}MHz" if alone else ""
                reach = f"{least} to {most} MHz"
                found.append(Offer(KIND, gpu.name, "not told", reach, ROOT, mode))
    except library.NVMLError:
        return []
    finally:
        nvml.shut_down(library)
    return found


def open_actuator() -> Actuator | None:
    """Returns what sets the limits of the one GPU here, None where there is no such GPU."""
    try:
        library = nvml.started()
    except MeterError:
        return None
    try:
        gpus = _gpus(library)
    except library.NVMLError:
        gpus = []
    if any(gpu.power_mw or gpu.clocks_mhz for gpu in gpus):
        return _GpuActuator(library, gpus)
    nvml.shut_down(library)
    return None


class _GpuActuator:
    """Sets a GPU's limits, and keeps the driver loaded, with which they may go."""

    def __init__(self, library: Any, gpus: list[_Gpu]) -> None:
        self._library = library
        self._gpus = gpus
        self._locked_mhz = _UNLOCKED
        self._closed = False

    def setting(self, word: str) -> Setting:
        if len(self._gpus) > 1:
            raise ModeError(
                f"{KIND}:{word}: there are {len(self._gpus)} GPUs, and a mode is of one. Set"
                " their limits with nvidia-smi, and measure in each."
            )
        gpu, found = self._gpus[0], _WORD.fullmatch(word)
        if found is None:
            raise ModeError(
                f"{KIND}:{word}: expected watts or the clock, as in '{KIND}:150W' or"
                f" '{KIND}:1200MHz'."
            )
        if found[2] == "W":
            setting = {_POWER: str(round(float(found[1]) * 1e3))}
        else:
            setting = {_CLOCK: str(_nearest(float(found[1]), gpu.clocks_mhz))}
        try:
            self.check(setting)
        except ModeError as cause:
            raise ModeError(f"{KIND}:{word}: {cause}") from cause
        return setting

    def word(self, setting: Setting) -> str:
        words = []
        if _POWER in setting:
            words.append(f"{int(setting[_POWER]) / 1e3:g}W")
        if _CLOCK in setting:
            words.append(f"{setting[_CLOCK]}MHz")
        return f"+{KIND}:".join(words)

    def check(self, setting: Setting) -> None:
        gpu = self._gpus[0]
        for key, text in setting.items():
            value = whole(text)
            if key == _POWER and gpu.power_mw:
                least, most = gpu.power_mw
                if value is None or not least <= value <= most:
                    raise ModeError(
                        f"{gpu.name} takes limits from {least / 1e3:g} to {most / 1e3:g} W."
                    )
            elif key == _CLOCK and gpu.clocks_mhz:
                if text != _UNLOCKED and value not in gpu.clocks_mhz:
                    least, most = gpu.clocks_mhz[0], gpu.clocks_mhz[-1]
                    raise ModeError(f"{gpu.name} takes clocks from {least} to {most} MHz.")
            else:
                raise ModeError(f"{gpu.name} has no limit of this kind ({key}).")

    def check_may(self, setting: Setting) -> None:
        gpu = self._gpus[0]
        if gpu.power_mw:  # to write what is there tells who may, and changes nothing
            now_mw = self._ask(
                "power limit", self._library.nvmlDeviceGetPowerManagementLimit, gpu.handle
            )
            self._limit_power(now_mw)

    def now(self, setting: Setting) -> Setting:
        found = {}
        if _POWER in setting:
            ask = self._library.nvmlDeviceGetPowerManagementLimit
            found[_POWER] = str(self._ask("power limit", ask, self._gpus[0].handle))
        if _CLOCK in setting:
            found[_CLOCK] = self._locked_mhz
        return found

    def holds(self, setting: Setting) -> bool:
        found = self.now(setting)
        power = abs(int(found.get(_POWER, 0)) - int(setting.get(_POWER, 0)))
        return power <= _SLACK_MW and setting.get(_CLOCK, self._locked_mhz) == self._locked_mhz

    def put(self, setting: Setting) -> None:
        if _POWER in setting:
            self._limit_power(int(setting[_POWER]))
            if not self.holds({_POWER: setting[_POWER]}):
                found_mw = int(self.now({_POWER: ""})[_POWER])
                raise ModeError(
                    f"{self._gpus[0].name}: a limit of {int(setting[_POWER]) / 1e3:g} W was"
                    f" set, and {found_mw / 1e3:g} W is in force."
                )
        if _CLOCK in setting:
            self._lock_clock(setting[_CLOCK])

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            nvml.shut_down(self._library)

    def _limit_power(self, limit_mw: int) -> None:
        handle = self._gpus[0].handle
        set_limit = self._library.nvmlDeviceSetPowerManagementLimit
        self._ask("power limit", set_limit, handle, limit_mw)

    def _lock_clock(self, text: str) -> None:
        library, gpu, most_mhz = self._library, self._gpus[0], int(text)
        if text == _UNLOCKED:
            self._ask("clock", library.nvmlDeviceResetGpuLockedClocks, gpu.handle)
            self._locked_mhz = _UNLOCKED
            return
        least_mhz = gpu.clocks_mhz[0]
        lock = library.nvmlDeviceSetGpuLockedClocks
        self._ask("clock", lock, gpu.handle, least_mhz, most_mhz)
        self._locked_mhz = text
        end_s = time.monotonic() + _LONGEST_S
        while True:
            ask = library.nvmlDeviceGetClockInfo
            now_mhz = self._ask("clock", ask, gpu.handle, library.NVML_CLOCK_GRAPHICS)
            if now_mhz <= most_mhz + _SLACK_MHZ:
                return
            if time.monotonic() >= end_s:
                raise ModeError(
                    f"{gpu.name}: the clock was locked to {most_mhz} MHz, and is {now_mhz} MHz"
                    f" after {_LONGEST_S:g} s."
                )
            time.sleep(_PAUSE_S)

    def _ask(self, what: str, function: Callable[..., int], *arguments: Any) -> int:
        try:
            return function(*arguments)
        except self._library.NVMLError as cause:
            may_not = cause.value == self._library.NVML_ERROR_NO_PERMISSION
            told = "Setting it takes root." if may_not else "nvidia-smi must work here."
            raise ModeError(f"{self._gpus[0].name}: its {what}: {cause}. {told}") from cause


def _gpus(library: Any) -> list[_Gpu]:
    """Returns all GPUs; what one does not support is empty."""

    def ask(function: Callable[..., Any], *arguments: Any) -> tuple[int, ...]:
        try:
            return tuple(sorted(function(*arguments)))
        except library.NVMLError as cause:
            if cause.value != library.NVML_ERROR_NOT_SUPPORTED:
                raise
            return ()

    found = []
    for handle in nvml.handles(library):
        power_mw = ask(library.nvmlDeviceGetPowerManagementLimitConstraints, handle)
        memory_mhz = ask(library.nvmlDeviceGetSupportedMemoryClocks, handle)
        clocks = library.nvmlDeviceGetSupportedGraphicsClocks
        clocks_mhz = ask(clocks, handle, memory_mhz[-1]) if memory_mhz else ()
        found.append(_Gpu(handle, nvml.device_name(library, handle), power_mw, clocks_mhz))
    return found


def _nearest(wanted_mhz: float, clocks_mhz: tuple[int, ...]) -> int:
    """Returns the highest clock that is not above ``wanted_mhz``, or the number as it is."""
    below = [clock for clock in clocks_mhz if clock <= wanted_mhz]
    return below[-1] if below and wanted_mhz <= clocks_mhz[-1] else round(wanted_mhz)

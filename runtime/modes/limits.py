"""Limits that are files of the kernel: clocks of CPUs and GPUs, power of processors, profiles.

The layouts are those of ``Documentation/admin-guide/pm/cpufreq``,
``Documentation/power/powercap``, ``ABI/testing/sysfs-class-devfreq`` and
``sysfs-platform_profile``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..bundle.device import GPU_DEVICE
from ..errors import ModeError, choices_text
from ..meters.sysfs import read_optional_number, read_optional_text
from .actuators import (
    NOT_TOLD,
    ROOT,
    Offer,
    Setting,
    check_writable,
    may_write,
    whole,
    write_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .actuators import Actuator

PROFILE, CPUFREQ, DEVFREQ, POWERCAP = "platform_profile", "cpufreq", "devfreq", "powercap"

_ZONE = re.compile(r"intel-rapl(-mmio)?:\d+(:\d+)?")
_PACKAGE = re.compile(r"intel-rapl:\d+")
_WORD = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(MHz|W)", re.ASCII)
# The field of a RAPL limit has 15 bits, in eighths of a watt on every processor met so far
# (Intel, Software Developer's Manual 3B, "Package RAPL Domain").
_EIGHTH_UW = 125_000
_LARGEST_UW = (2**15 - 1) * _EIGHTH_UW


class _Unit(NamedTuple):
    """A unit that users write, in the kernel's, and by how much a driver may round."""

    name: str
    size: int
    slack: int

    def text(self, value: int) -> str:
        """Returns a value of the kernel's as users write it."""
        return f"{value / self.size:g}{self.name}"


_KHZ = _Unit("MHz", 10**3, 10**3)
_HZ = _Unit("MHz", 10**6, 10**6)
_UW = _Unit("W", 10**6, _EIGHTH_UW)


@dataclass(frozen=True, slots=True)
class _Limit:
    """One file that caps something, in the kernel's unit.

    Attributes:
        name: What it caps, by the name of its folder.
        file: Where it is.
        least: The lowest that a mode may set.
        most: The highest.
        steps: The only values that it takes, ascending; empty where it takes all between.
        lowest: The lowest that the device takes, which firmware may have set.
        highest: The highest.
    """

    name: str
    file: Path
    least: int
    most: int
    steps: tuple[int, ...]
    lowest: int
    highest: int

    def upto(self, wanted: int, rounding: int) -> int | None:
        """Returns the highest value that it takes which is not above ``wanted``, if any."""
        if self.steps:  # as they are shown, which is rounded
            return max(
                (step for step in self.steps if step <= wanted + rounding), default=None
            )
        return min(wanted, self.most) if wanted >= self.least else None


class _LimitsActuator:
    """Sets the same limit for all that is capped by files of one kind.

    A limit is the highest that something may reach: what cannot reach it anyhow is capped at
    its own most.
    """

    def __init__(self, kind: str, limits: list[_Limit], unit: _Unit) -> None:
        self._kind = kind
        self._limits = {limit.name: limit for limit in limits}
        self._unit = unit

    def setting(self, word: str) -> Setting:
        unit, found = self._unit, _WORD.fullmatch(word)
        if found is None or found[2] != unit.name:
            now = next(iter(self._limits.values())).most
            raise ModeError(
                f"{self._kind}:{word}: expected a number of {unit.name}, as in"
                f" '{self._kind}:{unit.text(now)}'."
            )
        wanted, half = round(float(found[1]) * unit.size), unit.size // 2
        chosen = {}
        for name, limit in self._limits.items():
            value = limit.upto(wanted, half)
            if value is None:
                raise ModeError(
                    f"{self._kind}:{word}: {name} goes down to {unit.text(limit.least)}."
                )
            chosen[name] = value
        if all(abs(value - wanted) > half for value in chosen.values()):
            raise ModeError(f"{self._kind}:{word}: {self._nearest(wanted)}")
        return {name: str(value) for name, value in chosen.items()}

    def word(self, setting: Setting) -> str:
        return self._unit.text(max(map(int, setting.values())))

    def check(self, setting: Setting) -> None:
        for name, text in setting.items():
            limit, value = self._limits.get(name), whole(text)
            if limit is None:
                raise ModeError(
                    f"{self._kind}: this device has no {name!r}. Now there are:"
                    f" {', '.join(self._limits)}."
                )
            if value is None or not limit.lowest <= value <= limit.highest:
                raise ModeError(
                    f"{self._kind}: {text!r} for {name} is not what this device takes, which"
                    f" is {self._unit.text(limit.lowest)} to {self._unit.text(limit.highest)}."
                )

    def check_may(self, setting: Setting) -> None:
        for name in setting:
            check_writable(self._limits[name].file)

    def now(self, setting: Setting) -> Setting:
        return {name: read_optional_text(self._limits[name].file) for name in setting}

    def holds(self, setting: Setting) -> bool:
        return all(self._is(text, setting[name]) for name, text in self.now(setting).items())

    def put(self, setting: Setting) -> None:
        for name, wanted in setting.items():
            file = self._limits[name].file
            write_line(file, wanted)
            found = read_optional_text(file)
            if not self._is(found, wanted):
                number = whole(found)
                shown = "nothing" if number is None else self._unit.text(number)
                raise ModeError(
                    f"{file}: {self._unit.text(int(wanted))} was written, and {shown} is in"
                    " force: the driver, or another program, holds it there."
                )

    def close(self) -> None:
        pass

    def _is(self, found: str, wanted: str) -> bool:
        number = whole(found)
        return number is not None and abs(number - int(wanted)) <= self._unit.slack

    def _nearest(self, wanted: int) -> str:
        unit = self._unit
        steps = sorted({step for limit in self._limits.values() for step in limit.steps})
        most = max(limit.most for limit in self._limits.values())
        if wanted > most:
            return f"the most is {unit.text(most)}."
        near = [*[step for step in steps if step < wanted][-1:],
                *[step for step in steps if step > wanted][:1]]  # fmt: skip
        return f"the nearest that there is: {' and '.join(map(unit.text, near))}."


class _ProfileActuator:
    """Sets the platform's profile."""

    def __init__(self, file: Path, choices: list[str]) -> None:
        self._file = file
        self._choices = choices

    def setting(self, word: str) -> Setting:
        found = {self._file.name: word}
        self.check(found)
        return found

    def word(self, setting: Setting) -> str:
        return setting[self._file.name]

    def check(self, setting: Setting) -> None:
        word = setting.get(self._file.name, NOT_TOLD)
        if len(setting) != 1 or word not in self._choices:
            raise ModeError(
                f"unknown platform profile {word!r}. {choices_text(word, self._choices)}"
            )

    def check_may(self, setting: Setting) -> None:
        check_writable(self._file)

    def now(self, setting: Setting) -> Setting:
        return {self._file.name: read_optional_text(self._file)}

    def holds(self, setting: Setting) -> bool:
        return self.now(setting) == setting

    def put(self, setting: Setting) -> None:
        write_line(self._file, self.word(setting))
        if not self.holds(setting):
            raise ModeError(
                f"{self._file}: {self.word(setting)!r} was written, and"
                f" {self.word(self.now(setting))!r} is in force: the firmware, or another"
                " program, holds it there."
            )

    def close(self) -> None:
        pass


def open_profile(root: Path) -> Actuator | None:
    """Returns what sets the platform's profile, None where there is none."""
    folder, choices = _profiles(root)
    return _ProfileActuator(folder / PROFILE, choices) if choices else None


def open_cpufreq(root: Path) -> Actuator | None:
    """Returns what caps the clocks of the CPUs, None where nothing does."""
    limits = []
    for folder in _policies(root):
        least = read_optional_number(folder / "cpuinfo_min_freq")
        most = read_optional_number(folder / "cpuinfo_max_freq")
        steps = _numbers(folder / "scaling_available_frequencies")
        limits += _told_limit(folder.name, folder / "scaling_max_freq", least, most, steps)
    return _LimitsActuator(CPUFREQ, limits, _KHZ) if limits else None


def open_devfreq(root: Path) -> Actuator | None:
    """Returns what caps the clocks of GPUs that are no cards, None where nothing does."""
    limits = []
    for folder in _scaled_devices(root):
        steps = _numbers(folder / "available_frequencies")
        if GPU_DEVICE.search(folder.name) and steps:
            limits += _told_limit(folder.name, folder / "max_freq", steps[0], steps[-1], steps)
    return _LimitsActuator(DEVFREQ, limits, _HZ) if limits else None


def open_powercap(root: Path) -> Actuator | None:
    """Returns what caps the long-term power of processors, None where nothing does."""
    limits = []
    for zone in _zones(root):
        if _is_package(zone):
            told = read_optional_number(zone / "constraint_0_max_power_uw")
            most = min(told or _LARGEST_UW, _LARGEST_UW)
            file = zone / "constraint_0_power_limit_uw"
            limits += [_Limit(zone.name, file, _UW.size, most, (), _EIGHTH_UW, _LARGEST_UW)]
    return _LimitsActuator(POWERCAP, limits, _UW) if limits else None


def _told_limit(
    name: str, file: Path, least: int | None, most: int | None, steps: tuple[int, ...]
) -> list[_Limit]:
    if least is None or most is None or not file.exists():
        return []
    return [_Limit(name, file, least, most, steps, least, most)]


def offers(root: Path) -> list[Offer]:
    """Returns the profile, and all limits that are told."""
    return [*_profile(root), *_cpufreq(root), *_devfreq(root), *_powercap(root)]


def _profile(root: Path) -> list[Offer]:
    folder, choices = _profiles(root)
    if not choices:
        return []
    file = folder / PROFILE
    now = read_optional_text(file)
    listed, mode = ", ".join(choices), f"{PROFILE}:{now or choices[0]}"
    return [Offer(PROFILE, "the platform", now, listed, _needs(file), mode)]


def _cpufreq(root: Path) -> list[Offer]:
    found = []
    for folder in _policies(root):
        file = folder / "scaling_max_freq"
        governors = read_optional_text(folder / "scaling_available_governors").split()
        governor = read_optional_text(folder / "scaling_governor")
        reach = _range(folder / "cpuinfo_min_freq", folder / "cpuinfo_max_freq", _mhz(1e3))
        now = _number(file, _mhz(1e3))
        if now and reach:
            cpus = read_optional_text(folder / "related_cpus") or folder.name
            told = f", by {governor}" if governor else ""
            choices = f"{reach}; governors {', '.join(governors)}" if governors else reach
            name = f"{folder.name} (CPUs {cpus})"
            mode = f"{CPUFREQ}:{_number(file, _KHZ.text)}"
            found.append(
                Offer(CPUFREQ, name, f"up to {now}{told}", choices, _needs(file), mode)
            )
    return found


def _devfreq(root: Path) -> list[Offer]:
    found = []
    for folder in _scaled_devices(root):
        file = folder / "max_freq"
        clocks = _numbers(folder / "available_frequencies")
        now = _number(file, _mhz(1e6))
        if now and clocks:
            reach = f"{clocks[0] / 1e6:.0f} to {clocks[-1] / 1e6:.0f} MHz"
            by_mode = GPU_DEVICE.search(folder.name)
            mode = f"{DEVFREQ}:{_number(file, _HZ.text)}" if by_mode else ""
            offer = Offer(DEVFREQ, folder.name, f"up to {now}", reach, _needs(file), mode)
            found.append(offer)
    return found


def _powercap(root: Path) -> list[Offer]:
    found = []
    for zone in _zones(root):
        whole_name = read_optional_text(zone / "name") or zone.name
        for file in sorted(zone.glob("constraint_*_power_limit_uw")):
            prefix = file.name.removesuffix("_power_limit_uw")
            now = _number(file, _watts)
            most = _number(zone / f"{prefix}_max_power_uw", _watts)
            if now:
                label = read_optional_text(zone / f"{prefix}_name") or prefix
                choices = f"up to {most}" if most else "not told"
                name = f"{whole_name} {label} ({zone.name})"
                by_mode = prefix == "constraint_0" and _is_package(zone)
                mode = f"{POWERCAP}:{_number(file, _UW.text)}" if by_mode else ""
                found.append(Offer(POWERCAP, name, now, choices, _needs(file), mode))
    return found


def _profiles(root: Path) -> tuple[Path, list[str]]:
    folder = root / "sys/firmware/acpi"
    return folder, read_optional_text(folder / "platform_profile_choices").split()


def _policies(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))


def _scaled_devices(root: Path) -> list[Path]:
    return sorted((root / "sys/class/devfreq").glob("*"))


def _zones(root: Path) -> list[Path]:
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl*:*"))
    return [zone for zone in zones if _ZONE.fullmatch(zone.name)]


def _is_package(zone: Path) -> bool:
    """Tells whether a zone is a processor package whose limits apply."""
    return (
        _PACKAGE.fullmatch(zone.name) is not None
        and read_optional_text(zone / "name").startswith("package")
        and read_optional_text(zone / "enabled") != "0"
        and (zone / "constraint_0_power_limit_uw").exists()
    )


def _needs(file: Path) -> str:
    return "" if may_write(file) else ROOT


def _numbers(file: Path) -> tuple[int, ...]:
    """Returns the numbers in a file, ascending."""
    words = read_optional_text(file).split()
    return tuple(sorted(int(word) for word in words if whole(word) is not None))


def _number(file: Path, text: Callable[[int], str]) -> str:
    number = read_optional_number(file)
    return "" if number is None else text(number)


def _range(least: Path, most: Path, text: Callable[[int], str]) -> str:
    return " to ".join(filter(None, (_number(least, text), _number(most, text))))


def _mhz(unit: float) -> Callable[[int], str]:
    return lambda number: f"{number / unit:.0f} MHz"


def _watts(uw: int) -> str:
    return f"{uw / 1e6:g} W"

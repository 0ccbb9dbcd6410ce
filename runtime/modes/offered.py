"""What a device offers to cap its power or its clocks, read from files of the system.

The layouts are those of NVIDIA's nvpmodel (``/etc/nvpmodel.conf``, ``/var/lib/nvpmodel``) and
of the kernel: ``Documentation/admin-guide/pm/cpufreq``, ``Documentation/power/powercap``,
``ABI/testing/sysfs-class-devfreq`` and ``sysfs-platform_profile``. GPUs on cards are asked
through NVML.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MeterError
from ..meters import nvml
from ..meters.sysfs import read_optional_number, read_optional_text

if TYPE_CHECKING:
    from collections.abc import Callable

_SECTION = re.compile(r"<\s*(POWER_MODEL|PARAM|PM_CONFIG)\b([^>]*)>")
_FIELD = re.compile(r"(\w+)=(\S+)")
_IN_FORCE = re.compile(r"pmode:(\d+)")
_UNCAPPED = -1  # as nvpmodel.conf writes it
_ZONE = re.compile(r"intel-rapl(-mmio)?:\d+(:\d+)?")
_ROOT = "root"
_REBOOT = "root and a reboot"


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that caps power or clocks, and can be set otherwise.

    Attributes:
        kind: What it is: ``nvpmodel``, ``platform_profile``, ``cpufreq``, ``devfreq``,
            ``powercap`` or ``nvml``.
        name: Which one of its kind, or which mode.
        now: Its value; of a mode whether it is in force.
        choices: What it may be set to, in words.
        needs: What it takes to set it; empty if this user may.
    """

    kind: str
    name: str
    now: str
    choices: str
    needs: str


def offered(root: Path = Path("/")) -> tuple[Offer, ...]:
    """Returns all that is offered; ``root`` is the folder to take for ``/``.

    What cannot be read is left out: nothing is assumed of it.
    """
    return (
        *_nvpmodel(root),
        *_platform_profile(root),
        *_cpufreq(root),
        *_devfreq(root),
        *_powercap(root),
        *_nvml(),
    )


@dataclass(slots=True)
class _Mode:
    """A mode of nvpmodel.conf: what it sets, by parameter and argument."""

    number: int
    name: str
    values: dict[tuple[str, str], str] = field(default_factory=dict)

    def clock_mhz(self, parameter: str, unit: float) -> str:
        """Returns the highest clock that it allows; empty if it says nothing of it."""
        found = [
            int(value)
            for (name, argument), value in self.values.items()
            if name.startswith(parameter) and argument == "MAX_FREQ" and _is_number(value)
        ]
        if not found:
            return ""
        highest = max(found)
        return "uncapped" if highest == _UNCAPPED else f"{highest / unit:.0f} MHz"

    @property
    def gated(self) -> frozenset[tuple[tuple[str, str], str]]:
        """What it gates of the GPU: changes while the GPU is in use need a reboot."""
        return frozenset(item for item in self.values.items() if "POWER_GATING" in item[0][0])

    @property
    def text(self) -> str:
        """What it means, in words."""
        online = [value for (name, _), value in self.values.items() if name == "CPU_ONLINE"]
        parts = [
            f"{online.count('1')} CPUs" if online else "",
            _told("CPU", self.clock_mhz("CPU_", 1e3)),
            _told("GPU", self.clock_mhz("GPU", 1e6)),
            _told("memory", self.clock_mhz("EMC", 1e6)),
        ]
        return ", ".join(filter(None, parts))


def _nvpmodel(root: Path) -> list[Offer]:
    """Returns the modes of a Jetson, each of which caps everything."""
    modes = _modes(read_optional_text(root / "etc/nvpmodel.conf"))
    found = _IN_FORCE.search(read_optional_text(root / "var/lib/nvpmodel/status"))
    number = int(found[1]) if found else None
    here = next((mode for mode in modes if mode.number == number), None)
    return [
        Offer(
            "nvpmodel",
            mode.name,
            "in force" if mode is here else "" if here else "not told",
            mode.text,
            _REBOOT if here is None or mode.gated != here.gated else _ROOT,
        )
        for mode in modes
    ]


def _modes(text: str) -> list[_Mode]:
    modes: list[_Mode] = []
    inside = False
    for line in text.splitlines():
        section = _SECTION.match(line.strip())
        if section is not None:
            fields: dict[str, str] = dict(_FIELD.findall(section[2]))
            inside = section[1] == "POWER_MODEL" and _is_number(fields.get("ID", ""))
            if inside:
                modes.append(_Mode(int(fields["ID"]), fields.get("NAME", fields["ID"])))
        elif inside and not line.startswith("#"):
            words = line.split()
            if len(words) == 3:
                modes[-1].values[words[0], words[1]] = words[2]
    return modes


def _platform_profile(root: Path) -> list[Offer]:
    folder = root / "sys/firmware/acpi"
    file = folder / "platform_profile"
    choices = read_optional_text(folder / "platform_profile_choices").split()
    if not choices:
        return []
    now = read_optional_text(file)
    return [Offer("platform_profile", "the platform", now, ", ".join(choices), _needs(file))]


def _cpufreq(root: Path) -> list[Offer]:
    found = []
    for folder in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*")):
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
            found.append(Offer("cpufreq", name, f"up to {now}{told}", choices, _needs(file)))
    return found


def _devfreq(root: Path) -> list[Offer]:
    found = []
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        file = folder / "max_freq"
        clocks = [
            int(each)
            for each in read_optional_text(folder / "available_frequencies").split()
            if _is_number(each)
        ]
        now = _number(file, _mhz(1e6))
        if now and clocks:
            reach = f"{min(clocks) / 1e6:.0f} to {max(clocks) / 1e6:.0f} MHz"
            found.append(Offer("devfreq", folder.name, f"up to {now}", reach, _needs(file)))
    return found


def _powercap(root: Path) -> list[Offer]:
    found = []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl*:*")):
        if not _ZONE.fullmatch(zone.name):
            continue
        whole = read_optional_text(zone / "name") or zone.name
        for file in sorted(zone.glob("constraint_*_power_limit_uw")):
            prefix = file.name.removesuffix("_power_limit_uw")
            now = _number(file, _watts(1e6))
            most = _number(zone / f"{prefix}_max_power_uw", _watts(1e6))
            if now:
                label = read_optional_text(zone / f"{prefix}_name") or prefix
                choices = f"up to {most}" if most else "not told"
                name = f"{whole} {label} ({zone.name})"
                found.append(Offer("powercap", name, now, choices, _needs(file)))
    return found


def _nvml() -> list[Offer]:
    try:
        limits = nvml.power_limits()
    except MeterError:
        return []
    return [Offer("nvml", each.gpu, f"{each.now_w:g} W", each.reach, _ROOT) for each in limits]


def _needs(file: Path) -> str:
    return "" if os.access(file, os.W_OK) else _ROOT


def _number(file: Path, text: Callable[[int], str]) -> str:
    number = read_optional_number(file)
    return "" if number is None else text(number)


def _range(least: Path, most: Path, text: Callable[[int], str]) -> str:
    return " to ".join(filter(None, (_number(least, text), _number(most, text))))


def _mhz(unit: float) -> Callable[[int], str]:
    return lambda number: f"{number / unit:.0f} MHz"


def _watts(unit: float) -> Callable[[int], str]:
    return lambda number: f"{number / unit:g} W"


def _told(what: str, value: str) -> str:
    return f"{what} {'to ' if value[:1].isdigit() else ''}{value}" if value else ""


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", text, re.ASCII) is not None

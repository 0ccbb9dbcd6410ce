"""Files laid out as the kernel shows power rails and processor counters, moved by hand.

The layouts are those of the drivers ``ina3221``, ``ina238`` (Linux, drivers/hwmon) and
``ina3221x`` (JetPack 4), and of ``Documentation/power/powercap``.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Reading it fails with an input/output error, as a sensor does that does not answer.
DEAD = Path("/proc/self/mem")


@dataclass
class Rails:
    """The rails of a board under ``system``, each with the file that its power is shown in.

    Attributes:
        system: What stands for ``/sys``.
        channels: For each label its folder, its channel and its voltage in millivolts; the
            voltage is 0 where the chip shows power.
    """

    system: Path
    channels: dict[str, tuple[Path, int, int]] = field(default_factory=dict)

    def show(self, **powers_mw: float) -> None:
        """Sets the power of rails, rounded to the steps that the chip can show."""
        for label, power_mw in powers_mw.items():
            folder, channel, voltage_mv = self.channels[label]
            if folder.name.startswith("iio"):
                write(folder / f"in_power{channel}_input", round(power_mw))
            elif voltage_mv == 0:
                write(folder / "power1_input", round(power_mw * 1000))
            else:
                step_ma = 40_000 / int((folder / f"shunt{channel}_resistor").read_text())
                current_ma = round(power_mw / voltage_mv * 1000 / step_ma) * step_ma
                write(folder / f"curr{channel}_input", round(current_ma))

    def file(self, label: str) -> Path:
        """Returns a file that the power of ``label`` is read from."""
        folder, channel, voltage_mv = self.channels[label]
        if folder.name.startswith("iio"):
            return folder / f"in_power{channel}_input"
        return folder / (f"curr{channel}_input" if voltage_mv else "power1_input")

    def ina3221(
        self,
        number: int,
        channels: Mapping[str, int],
        shunt_uohm: int = 5000,
        update_interval: int | None = 7,
        samples: int = 1,
    ) -> Path:
        """Adds an INA3221.

        Args:
            number: The N of ``hwmonN``.
            channels: Label and voltage in millivolts of channels 1, 2, 3. A label that begins
                with ``off`` is a channel that the device tree disables.
            shunt_uohm: The resistance of the shunts.
            update_interval: Milliseconds; None for a driver that does not show it.
            samples: How many conversions are averaged.
        """
        folder = self._hwmon(number, "ina3221")
        if update_interval is not None:
            write(folder / "update_interval", update_interval)
        write(folder / "samples", samples)
        for channel, (label, voltage_mv) in enumerate(channels.items(), 1):
            enabled = not label.startswith("off")
            write(folder / f"in{channel}_enable", int(enabled))
            write(folder / f"shunt{channel}_resistor", shunt_uohm)
            write(folder / f"curr{channel}_max", 32760)
            write(folder / f"curr{channel}_crit", 32760)
            write(folder / f"curr{channel}_max_alarm", 0)
            write(folder / f"in{channel + 3}_input", 9)
            if enabled:
                write(folder / f"in{channel}_label", label)
                write(folder / f"in{channel}_input", voltage_mv)
                write(folder / f"curr{channel}_input", 0)
                self.channels[label] = (folder, channel, voltage_mv)
            else:
                (folder / f"in{channel}_input").symlink_to(DEAD)
                (folder / f"curr{channel}_input").symlink_to(DEAD)
        write(folder / "in7_label", "sum of shunt voltages")
        write(folder / "in7_input", 760)
        write(folder / "curr4_input", 36_000)
        write(folder / "curr4_crit", 32760)
        return folder

    def ina238(self, number: int, label: str) -> Path:
        """Adds an INA238, whose one channel is named by the chip's label."""
        folder = self._hwmon(number, "ina238")
        write(folder / "label", label)
        write(folder / "in0_input", 3)
        write(folder / "in1_input", 19_980)
        write(folder / "curr1_input", 1200)
        write(folder / "temp1_input", 41_000)
        write(folder / "power1_input", 0)
        self.channels[label] = (folder, 1, 0)
        return folder

    def ina3221x(self, device: int, address: str, labels: tuple[str, ...]) -> Path:
        """Adds an INA3221 as JetPack 4 shows it."""
        drivers = self.system / "bus/i2c/drivers/ina3221x"
        folder = drivers / address / f"iio:device{device}"
        folder.mkdir(parents=True)
        write(folder / "name", "ina3221x")
        for channel, label in enumerate(labels):
            write(folder / f"rail_name_{channel}", label)
            write(folder / f"in_power{channel}_input", 0)
            write(folder / f"in_voltage{channel}_input", 5000)
            write(folder / f"in_current{channel}_input", 0)
            self.channels[label] = (folder, channel, 0)
        return folder

    def other(self, number: int, name: str) -> None:
        """Adds a chip that is no power monitor, with files of the same names."""
        folder = self._hwmon(number, name)
        write(folder / "in1_label", "VDD_IN")
        write(folder / "in1_input", 5000)
        write(folder / "curr1_input", 9000)
        write(folder / "power1_input", 45_000_000)

    def _hwmon(self, number: int, name: str) -> Path:
        """Adds a chip where it is, and the link to it in ``class/hwmon``."""
        place = self.system / f"devices/i2c-{number}/hwmon/hwmon{number}"
        place.mkdir(parents=True)
        write(place / "name", name)
        link = self.system / f"class/hwmon/hwmon{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(place)
        return link


ORIN_NX = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
XAVIER = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")


def agx_orin(system: Path, first: int = 3) -> Rails:
    """An AGX Orin; its chips' numbers begin at ``first``."""
    rails = Rails(system)
    rails.other(first + 2, "nct1008")
    rails.ina3221(
        first,
        {"VDD_GPU_SOC": 19_840, "VDD_CPU_CV": 19_840, "VIN_SYS_5V0": 4968},
        shunt_uohm=2000,
    )
    rails.ina3221(
        first + 1,
        {"NC": 0, "VDDQ_VDD2_1V8AO": 4968, "off": 0},
        shunt_uohm=2000,
        update_interval=4,
    )
    return rails


def orin_nx(system: Path, first: int = 1) -> Rails:
    """An Orin NX, an Orin Nano or a Xavier NX."""
    rails = Rails(system)
    rails.ina3221(first, dict.fromkeys(ORIN_NX, 5000))
    rails.other(first + 1, "nvme")
    return rails


def agx_xavier(system: Path, first: int = 0) -> Rails:
    """An AGX Xavier with JetPack 5."""
    rails = Rails(system)
    rails.ina3221(first + 10, dict.fromkeys(XAVIER[3:], 5000))
    rails.ina3221(first + 9, dict.fromkeys(XAVIER[:3], 19_000))
    return rails


def agx_xavier_jetpack_4(system: Path, first: int = 0) -> Rails:
    """An AGX Xavier with JetPack 4."""
    rails = Rails(system)
    rails.ina3221x(first, "1-0040", XAVIER[:3])
    rails.ina3221x(first + 1, "1-0041", XAVIER[3:])
    return rails


def agx_thor(system: Path, first: int = 2) -> Rails:
    """An AGX Thor on its developer kit."""
    rails = Rails(system)
    rails.ina238(first + 1, "VIN")
    rails.ina3221(
        first,
        {"VDD_GPU": 19_600, "VDD_CPU_SOC_MSS": 19_600, "VIN_SYS_5V0": 5000},
        shunt_uohm=2000,
    )
    rails.other(first + 4, "pwm_tach")
    return rails


BOARDS = (agx_orin, orin_nx, agx_xavier, agx_xavier_jetpack_4, agx_thor)


@dataclass
class Powercap:
    """Processor counters under ``system``."""

    system: Path

    def add(self, zone: str, name: str, range_uj: int = 262_143_328_850) -> Path:
        """Adds ``intel-rapl:N`` or ``intel-rapl:N:M`` and returns its counter's file."""
        folder = self.system / "class/powercap" / zone
        folder.mkdir(parents=True)
        write(folder / "name", name)
        write(folder / "max_energy_range_uj", range_uj)
        write(folder / "energy_uj", 0)
        return folder / "energy_uj"


def write(path: Path, value: object) -> None:
    """Writes a line, as the kernel ends every value."""
    path.write_text(f"{value}\n")


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Yields a folder for a tree, in a process whose user's rights bind.

    Modes do not bind root: while the block runs, root is nobody.
    """
    # What is imported when it is used may lie where nobody may look.
    for kind in ("hwmon", "rapl"):
        importlib.import_module(f"skipc.runtime.meters.{kind}")
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)

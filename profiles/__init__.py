"""Profiles: what is known of each kind of device, and what its TOML file may hold."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from skipc.runtime.bundle.constraints import AtLeast, Distinct, KeysOf, OneOf, Positive
from skipc.runtime.bundle.records import read, read_document
from skipc.runtime.errors import SkipcError, choices_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent

PRECISIONS_OF_BACKEND: dict[str, tuple[str, ...]] = {
    "onnxruntime-cpu": ("fp32", "fp16", "int8", "int8-dynamic"),
    "onnxruntime-cuda": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8"),
    "tensorrt-rtx": ("fp32", "fp16", "bf16", "int8"),
}
"""The backends that a profile may name, and the precisions of each one's engines."""

PEAK_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
"""The arithmetic whose peak rate a board may give."""

ARCHITECTURES = ("aarch64", "any", "x86_64")

_CAPABILITY = re.compile(r"\d{1,2}\.\d")

Names = Annotated[tuple[str, ...], Distinct()]


class ProfileError(SkipcError):
    """There is no such profile, or its file does not have the form of one."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number with where it comes from.

    Attributes:
        value: The number; its unit is in the name of what holds it.
        source: Who says so, or how it was computed; empty only where it is derived.
        derived: Whether it was computed from other numbers instead of being read somewhere.
    """

    EXAMPLE: ClassVar[str] = (
        '{ value = ..., source = "..." }, which says where the number comes from, with'
        " derived = true where it was computed from others"
    )

    value: Positive
    source: str = ""
    derived: bool = False

    def check(self, where: str) -> None:
        """Raises ``ProfileError`` where nothing says where the number comes from."""
        if not self.source and not self.derived:
            raise ProfileError(
                f"{where}: no 'source'. Add source = \"...\", or derived = true where it was"
                " computed from other numbers."
            )


@dataclass(frozen=True, slots=True)
class Board:
    """One board or module of a kind of device; what is unknown is None or empty.

    Attributes:
        name: As its maker calls it, e.g. ``AGX Orin 64GB``.
        module_ids: What the device tree's ``compatible`` calls it, e.g. ``p3701-0005``.
        memory_gb: Memory of the accelerator in GB; on a Jetson the CPU uses it, too.
        bandwidth_gb_s: Peak bandwidth of that memory in GB/s (powers of 1000).
        peak_tops: Dense peak rate in 10^12 operations per second, by ``PEAK_PRECISIONS``;
            a multiply-accumulate is two operations.
        multiprocessors: The GPU's streaming multiprocessors.
        power_modes: Names of the power modes; ids mean other modes on other boards.
        rails: Names of the power rails that can be measured.
        total_rails: The rails whose sum is the total power.
    """

    name: str
    module_ids: Names = ()
    memory_gb: Number | None = None
    bandwidth_gb_s: Number | None = None
    peak_tops: Annotated[Mapping[str, Number], KeysOf(PEAK_PRECISIONS)] = field(
        default_factory=dict
    )
    multiprocessors: Number | None = None
    power_modes: Names = ()
    rails: Names = ()
    total_rails: Names = ()

    def check(self, where: str) -> None:
        """Raises ``ProfileError`` where a rail is none, or a processor is a half."""
        for rail in self.total_rails:
            if rail not in self.rails:
                raise ProfileError(
                    f"{where}: 'total_rails' holds {rail!r}, which is not in 'rails'."
                    f" {choices_text(rail, self.rails)}"
                )
        if self.multiprocessors is not None and not self.multiprocessors.value.is_integer():
            raise ProfileError(
                f"{where}: multiprocessors: {self.multiprocessors.value:g} is not a whole"
                " number."
            )

    def numbers(self) -> dict[str, Number]:
        """Returns every number that is known, by its key, e.g. ``peak_tops.fp16``."""
        single = {
            "memory_gb": self.memory_gb,
            "bandwidth_gb_s": self.bandwidth_gb_s,
            "multiprocessors": self.multiprocessors,
        }
        found = {key: number for key, number in single.items() if number is not None}
        return found | {f"peak_tops.{key}": value for key, value in self.peak_tops.items()}


@dataclass(frozen=True, slots=True)
class Software:
    """A release of the system software, e.g. JetPack; versions that are unknown are empty."""

    name: str
    tensorrt: str = ""
    cuda: str = ""
    python: str = ""
    l4t: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """How ``skipc targets --detect`` knows a device of this kind; empty: never.

    Attributes:
        compatible: Texts, one of which is in an entry of ``/proc/device-tree/compatible``.
        files: Paths, one of which exists.
        fallback: Whether this profile is right where no other one is.
    """

    compatible: Names = ()
    files: Names = ()
    fallback: bool = False

    def check(self, where: str) -> None:
        """Raises ``ProfileError`` where a file is relative to some folder."""
        for file in self.files:
            if not file.startswith("/"):
                raise ProfileError(
                    f"{where}: 'files' holds {file!r}, which is relative to no folder. Write a"
                    " path that begins with '/'."
                )


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What one network takes on the device, for ``skipc select`` on another machine.

    Attributes:
        base_ms: Latency with every unit skipped.
        unit_ms: What each unit adds, by its name.
    """

    base_ms: Positive
    unit_ms: Mapping[str, Annotated[float, AtLeast(0)]]


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of device.

    Attributes:
        name: The target's name, e.g. ``cpu``; engines lie in a folder of that name.
        backend: The runtime backend that runs its engines.
        description: One line for ``skipc targets``.
        architecture: Of the CPU: ``aarch64``, ``x86_64`` or ``any``.
        compute_capabilities: Of the GPU, e.g. ``8.7``; empty: whatever the GPU has.
        precisions: What engines may compute in: ``fp32``, ``fp16``, ``bf16``, ``int8``,
            ``int8-dynamic``.
        boards: The boards that are known of this kind.
        software: Releases of the system software that are known to run on it.
        detect: How a device of this kind is known.
        latency: Latencies measured on the device, where the profile is made for one network.
    """

    FORMAT: ClassVar[str] = "skipc.profile/1"

    name: str
    backend: Annotated[str, OneOf(tuple(PRECISIONS_OF_BACKEND))]
    description: str
    architecture: Annotated[str, OneOf(ARCHITECTURES)] = "any"
    compute_capabilities: Names = ()
    precisions: Names = ("fp32",)
    boards: Annotated[tuple[Board, ...], Distinct("name")] = ()
    software: tuple[Software, ...] = ()
    detect: Detection = field(default_factory=Detection)
    latency: LatencyTable | None = None

    def check(self, where: str) -> None:
        """Raises ``ProfileError`` where values are no such thing, or contradict each other."""
        for value in self.compute_capabilities:
            if not _CAPABILITY.fullmatch(value):
                raise ProfileError(
                    f"{where}: 'compute_capabilities' holds {value!r}, which is none. Write"
                    " major and minor number, e.g. '8.7'."
                )
        able = PRECISIONS_OF_BACKEND[self.backend]
        if not self.precisions:
            raise ProfileError(
                f"{where}: 'precisions' is empty. {choices_text('', able)} Name at least one,"
                " or leave the key out for 'fp32'."
            )
        for value in self.precisions:
            if value not in able:
                raise ProfileError(
                    f"{where}: 'precisions' holds {value!r}, which engines of the backend"
                    f" {self.backend!r} cannot have. {choices_text(value, able)}"
                )
        owners: dict[str, str] = {}
        for index, board in enumerate(self.boards):
            for module in board.module_ids:
                if module in owners:
                    raise ProfileError(
                        f"{where}: boards[{index}]: 'module_ids' holds {module!r}, which the"
                        f" board {owners[module]!r} has, too. Boards are told apart by it:"
                        " remove one."
                    )
                owners[module] = board.name


def profile_names() -> tuple[str, ...]:
    """Returns the names of the profiles that come with skipc, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_profile(name_or_path: str) -> Profile:
    """Returns a profile that comes with skipc, by its name, or that in a ``.toml`` file."""
    if name_or_path.endswith(".toml"):
        return read_profile(Path(name_or_path))
    if name_or_path in profile_names():
        return read_profile(_FOLDER / f"{name_or_path}.toml")
    raise ProfileError(
        f"unknown target {name_or_path!r}. {choices_text(name_or_path, profile_names())}"
        " A profile of your own is given as a path that ends in '.toml'."
    )


def read_profile(path: Path) -> Profile:
    """Returns the profile in ``path``; a ``ProfileError`` names the key that is wrong."""
    profile = read(Profile, read_toml(path, ProfileError), str(path), ProfileError)
    if profile.name != path.stem:
        raise ProfileError(
            f"{path}: 'name' is {profile.name!r}, but the file is called {path.stem!r}."
            " Engines lie in a folder of that name, so both must be equal."
        )
    return profile


def read_toml(path: Path, error: type[Exception]) -> dict[str, object]:
    """Returns what a TOML file in UTF-8 holds, or raises ``error``."""
    data = read_document(path, error)
    try:
        value: dict[str, object] = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        raise error(f"{path}: not valid TOML: {cause}.") from cause
    return value

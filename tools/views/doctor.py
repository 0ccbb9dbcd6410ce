"""What ``skipc doctor`` prints: what is installed, and what this machine can do with it."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.targets import unavailable_reason, unmeasurable_reason
from skipc.profiles import load_profile, profile_names
from skipc.profiles.detect import detect
from skipc.runtime.errors import MeterError, install_text
from skipc.runtime.meters import MEASURING, meter_specs
from skipc.tools.console import facts, table

if TYPE_CHECKING:
    from rich.console import Console

_PURPOSES = {
    "compiler": "units, heads, build, train",
    "select": "select, policy, train on digits",
    "ray": "select --ray",
    "serve": "serve",
    "cpu": "run on a CPU",
    "finish": "finish: engines, without torch",
    "report": "report, pictures of trace",
    "cuda": "target cuda; alone",
    "rtx": "target rtx",
    "tensorrt": "target tensorrt",
    "jetson": "targets jetson-…",
    "nvml": "meter nvml",
}
"""What each extra is for; those for working on skipc itself are left out."""

_INSTEAD = {"onnxruntime": "onnxruntime-gpu"}
"""Packages that hold another one, too, by its name."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OF_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True, slots=True)
class Extra:
    """What an extra of skipc needs.

    Attributes:
        purpose: The commands that use it.
        installed: The versions of its packages.
        missing: The packages that are not there.
    """

    name: str
    purpose: str
    installed: dict[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetHere:
    """Why a target's engines cannot be built on this machine, or not run; None if they can."""

    name: str
    not_built: str | None
    not_run: str | None


@dataclass(frozen=True, slots=True)
class MeterHere:
    """The specs of one kind of meter, or why this machine has none."""

    kind: str
    specs: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is installed here, and what can be done with it.

    Attributes:
        base: Versions of skipc, Python and what skipc always needs, by name.
        suits: The target that suits this machine.
        because: What says so.
    """

    machine: str
    base: dict[str, str]
    extras: tuple[Extra, ...]
    suits: str
    because: str
    targets: tuple[TargetHere, ...]
    meters: tuple[MeterHere, ...]


def diagnose() -> Diagnosis:
    """Returns what is installed on this machine and what can be done; imports no framework."""
    packages: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("skipc") or ():
        package, of = _NAME.match(requirement), _OF_EXTRA.search(requirement)
        if package is not None:
            packages.setdefault(of[1] if of else "", []).append(package[0])
    base = {"skipc": _version("skipc") or "?", "Python": platform.python_version()}
    base |= {name: found for name in packages[""] if (found := _version(name))}
    extras = []
    for name, purpose in _PURPOSES.items():
        versions = {package: _version(package) for package in packages.get(name, ())}
        here = {package: found for package, found in versions.items() if found}
        missing = tuple(package for package, found in versions.items() if found is None)
        extras.append(Extra(name, purpose, here, missing))
    suited = detect()
    targets = []
    for profile in map(load_profile, profile_names()):
        not_built = unavailable_reason(profile)
        not_run = not_built or unmeasurable_reason(profile)
        targets.append(TargetHere(profile.name, not_built, not_run))
    return Diagnosis(
        machine=f"{platform.system()} {platform.release()}, {platform.machine()}",
        base=base,
        extras=tuple(extras),
        suits=suited.profile,
        because=suited.reason,
        targets=tuple(targets),
        meters=tuple(map(_meter, MEASURING)),
    )


def _version(package: str) -> str | None:
    """Returns the version of a package, or of one that takes its place; None without both."""
    for name in filter(None, (package, _INSTEAD.get(package))):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _meter(kind: str) -> MeterHere:
    try:
        return MeterHere(kind, meter_specs(kind), None)
    except MeterError as error:
        return MeterHere(kind, (), str(error))


def print_diagnosis(found: Diagnosis, out: Console) -> None:
    """Prints what there is, then how to get what is missing."""
    versions = ", ".join(f"{name} {version}" for name, version in found.base.items())
    suits = f"{found.suits}: {found.because}"
    out.print(facts(("machine", found.machine), ("versions", versions), ("suits", suits)))
    out.print()
    rows = table("extra", "here", "for", "packages")
    for extra in found.extras:
        here = "no" if extra.missing else "yes"
        told = [f"{name} {version}" for name, version in extra.installed.items()]
        told += [f"{name} is missing" for name in extra.missing]
        rows.add_row(extra.name, here, extra.purpose, ", ".join(told))
    out.print(rows)
    out.print()
    rows = table("target", "built here", "run here")
    for target in found.targets:
        built, run = (
            "no" if reason else "yes" for reason in (target.not_built, target.not_run)
        )
        rows.add_row(target.name, built, run)
    out.print(rows)
    reasons: dict[str, list[str]] = {}
    for target in found.targets:
        if target.not_run is not None:
            reasons.setdefault(target.not_run, []).append(target.name)
    for reason, names in reasons.items():
        out.print(f"\n{', '.join(names)}: {reason}")
    out.print()
    for meter in found.meters:
        out.print(f"meter {meter.kind}: {', '.join(meter.specs) or meter.reason}")
    missing = [extra.name for extra in found.extras if extra.missing]
    if missing:
        listed = ", ".join(missing)
        out.print(f"\nWhat is missing ({listed}) you get with: {install_text('EXTRA')}")

"""What engines are keyed by: the CPU they were packed for and the library that packed them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StaleEngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..bundle.engines import EngineSet
    from ..bundle.folder import Bundle

_CPUINFO = Path("/proc/cpuinfo")

_X86_FEATURES = (
    *("sse4_1", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_ne_convert", "avx_vnni_int8"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
)
_ARM_FEATURES = (
    *("neon", "asimd", "fphp", "asimdhp", "asimddp", "asimdfhm", "i8mm", "bf16"),
    *("sve", "sve2", "svei8mm", "svebf16", "sme", "sme2"),
)
_FEATURES = frozenset(_X86_FEATURES + _ARM_FEATURES)


def host_key(library: str, version: str) -> dict[str, str]:
    """Returns what the packed weights of ``library`` depend on, by name.

    The keys are ``architecture``, ``cpu_features`` (the instruction sets that matrix kernels
    choose by, sorted) and ``library`` itself. Where the system does not list instruction sets
    (Linux does, in ``/proc/cpuinfo``), the processor's name stands for them.
    """
    return {
        "architecture": platform.machine() or "unknown",
        "cpu_features": cpu_features(_cpuinfo()) or platform.processor() or "unknown",
        library: version,
    }


def cpu_features(cpuinfo: str) -> str:
    """Returns the instruction sets that every processor of ``/proc/cpuinfo``, as text, has.

    Those that are known, in alphabetical order, joined by a space. x86 names them ``flags``,
    Arm ``Features``.
    """
    per_processor = [
        frozenset(value.split())
        for key, value in _fields(cpuinfo)
        if key in ("flags", "features")
    ]
    return " ".join(sorted(_FEATURES.intersection(*per_processor))) if per_processor else ""


def default_threads() -> int:
    """Returns the threads an engine gets if the caller names none.

    One per physical core that this process may run on: a second thread on a core that is
    busy with matrix arithmetic slows both.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    return physical_cores(_cpuinfo(), allowed)


def physical_cores(cpuinfo: str, allowed: set[int]) -> int:
    """Returns how many physical cores the processors ``allowed`` belong to, at least 1.

    Where ``/proc/cpuinfo`` has no core ids (Arm, virtual machines), every processor counts.
    """
    cores: dict[int, tuple[str, str]] = {}
    processor, package = -1, ""
    for key, value in _fields(cpuinfo):
        if key == "processor" and value.isdigit():
            processor, package = int(value), ""
        elif key == "physical id":
            package = value
        elif key == "core id":
            cores[processor] = (package, value)
    return max(1, len({cores.get(number, ("", f"processor {number}")) for number in allowed}))


def stale_reason(built: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """Returns what differs between two host keys, or None if the engines fit."""
    parts: list[str] = []
    for name in sorted({*built, *here}):
        then, now = built.get(name, "unknown"), here.get(name, "unknown")
        if then == now:
            continue
        if name == "cpu_features":
            lost = sorted({*then.split()} - {*now.split()})
            new = sorted({*now.split()} - {*then.split()})
            lacks = f" lacks {' '.join(lost)}" if lost else ""
            adds = f" has {' '.join(new)} besides" if new else ""
            parts.append(f"this CPU{lacks}{' and' if lacks and adds else ''}{adds}")
        else:
            parts.append(f"{name} was {then}, here it is {now}")
    return "; ".join(parts) or None


def check_fits(bundle: Bundle, engines: EngineSet, reason: str | None) -> None:
    """Raises ``StaleEngineError`` if there is a reason why engines do not fit this host."""
    if reason is not None:
        raise StaleEngineError(
            f"{bundle.path}: the engines of target {engines.target!r} were built for another"
            f" host: {reason}. Run `skipc finish {bundle.path} --target {engines.target}`"
            " on this one."
        )


def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _fields(cpuinfo: str) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return [(key.strip().lower(), value.strip()) for key, colon, value in lines if colon]

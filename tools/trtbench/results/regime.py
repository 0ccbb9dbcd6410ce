"""The regime of a measurement: what was run on what, in words."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.backends.phases import Wait
from skipc.runtime.bundle.device import this_device
from skipc.tools.trtbench.baselines.registry import OF_PYTORCH
from skipc.tools.trtbench.results.report import MeterInfo, Regime
from skipc.tools.trtbench.running.conditions import conditions_now

if TYPE_CHECKING:
    from skipc.runtime import Meter
    from skipc.runtime.backends.phases import Way
    from skipc.tools.trtbench.running.conditions import Conditions
    from skipc.tools.trtbench.wanted import Subject, Wanted

_REMARKS: dict[str, str] = {
    "onnxruntime-cpu": "there are no transfers or graphs: a call is computation",
    "null": "nothing is run: times are scripted",
}
_WAITS: dict[Wait, str] = {
    Wait.DRIVER: "the host waits as the driver decides",
    Wait.SPIN: "the host waits without pause (spin)",
    Wait.BLOCK: "the host waits asleep (blocking)",
}

HOST_TIMES_ARE_COMPUTE: tuple[str, ...] = ("onnxruntime-cpu", "null")
"""Backends whose calls hold nothing but computation."""

# What of an engine's host key is not a version.
_NOT_VERSIONS = ("architecture", "cpu_features")


def call_text(backend: str, way: Way | None) -> str:
    """Returns what a call includes, and how it is made."""
    if way is None:
        return _REMARKS.get(backend, "what a call includes is the backend's affair")
    if not way.transfers:
        # The runtime captures none over arrays that are not its own.
        made = "no transfers, all arrays stay on the GPU; enqueued without a CUDA graph"
    elif way.graph:
        made = "transfers included; one captured CUDA graph of copies and engine"
    else:
        made = "transfers included; enqueued without a CUDA graph"
    return f"{made}; one stream; {_WAITS[way.wait]}"


def phases_text(way: Way) -> str:
    """Returns how the calls are made that are taken apart."""
    parts = "copy in, computation, copy out" if way.transfers else "the computation"
    graph = "launched as a CUDA graph of its own" if way.graph else "enqueued without a graph"
    return f"further calls, with CUDA events around {parts}; computation {graph}"


def regime_of(
    subject: Subject,
    wanted: Wanted,
    way: Way | None,
    meter: Meter | None,
    before: Conditions,
    warm_up_rounds: int,
) -> Regime:
    """Returns the regime of a measurement that just ended.

    Args:
        subject: What was measured.
        wanted: What was to be found out.
        way: How calls were made; None where the backend leaves no choice.
        meter: The meter that was read, if one was.
        before: What the device was like when it began.
        warm_up_rounds: Rounds dropped.
    """
    bundle, backend, engines = subject.bundle, subject.backend, subject.engines
    device = this_device()
    host = {} if engines is None else engines.host
    return Regime(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        backend=backend.name,
        target="null" if engines is None else engines.target,
        threads=backend.threads,
        device=device.name,
        power_mode=device.power_mode,
        before=before,
        after=conditions_now(),
        versions={
            "skipc": importlib.metadata.version("skipc"),
            "python": platform.python_version(),
            "numpy": np.__version__,
            **{name: text for name, text in host.items() if name not in _NOT_VERSIONS},
            **(
                {"torch": _torch_version()}
                if set(OF_PYTORCH) & set(wanted.baselines.names)
                else {}
            ),
        },
        inputs={
            name: f"{'x'.join(map(str, array.shape)) or 'scalar'} {array.dtype}"
            for name, array in subject.cases[0].items()
        },
        cases=len(subject.cases),
        stop=wanted.stop,
        streams=wanted.streams,
        warm_up_rounds=warm_up_rounds,
        meter=None if meter is None else MeterInfo(meter.name, meter.covers, meter.estimated),
        way=way,
    )


def _torch_version() -> str:
    return importlib.metadata.version("torch")

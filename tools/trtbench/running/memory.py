"""What a configuration takes on disk, on the host and on the device: its own, and shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skipc.runtime import Bundle
    from skipc.runtime.bundle.engines import EngineSet


@dataclass(frozen=True, slots=True)
class Share:
    """Memory of one configuration.

    Attributes:
        own_bytes: What no other configuration uses.
        shared_bytes: What others use, too.
    """

    own_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """Device memory of one configuration; all 0 on a CPU.

    Attributes:
        own_bytes: What its loaded engine takes, as the bundle lists it; 0 where the engine
            was built without the device.
        shared_bytes: Workspace that it needs while it runs, as the bundle lists it, which
            engines that take turns share.
        taken_bytes: By how much the device's free memory fell while it was loaded, whoever
            took it; 0 where it rose.
    """

    own_bytes: int
    shared_bytes: int
    taken_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one configuration, by place.

    Attributes:
        disk: Weights on disk.
        host: What this process grew by: ``own_bytes`` by loading this engine and its first
            call, after those listed before it; ``shared_bytes`` by opening the backend,
            before any engine. None where the system does not tell.
        device: Device memory.
    """

    disk: Share
    host: Share | None
    device: DeviceShare


def memory_of(
    bundle: Bundle,
    engines: EngineSet | None,
    configuration: str,
    host: Share | None,
    taken_bytes: int,
) -> Memory:
    """Returns a configuration's memory.

    Args:
        bundle: The bundle.
        engines: The target's engines; None where the null backend stands in.
        configuration: Which one.
        host: What was seen in this process.
        taken_bytes: What was seen on the device.
    """
    entry = None if engines is None else engines.engine(configuration)
    device = DeviceShare(
        0 if entry is None else entry.device_bytes,
        0 if entry is None else entry.workspace_bytes,
        taken_bytes,
    )
    return Memory(on_disk(bundle, engines, configuration), host, device)


def on_disk(bundle: Bundle, engines: EngineSet | None, configuration: str) -> Share:
    """Returns the bytes of a configuration's weights on disk.

    Of its engine; of its subnet where there are no engines. A plan that holds its weights
    itself counts as a whole: there is no telling them from the rest.
    """
    if engines is None:
        entries = bundle.manifest.configurations
        subnet = next(entry for entry in entries if entry.name == configuration)
        return Share(subnet.own_bytes, subnet.weights_bytes - subnet.own_bytes)
    entry = engines.engine(configuration)
    if entry.weights_bytes:
        return Share(entry.own_bytes, entry.weights_bytes - entry.own_bytes)
    plan = next(file for file in engines.files if file.path == entry.file)
    return Share(plan.size_bytes, 0)

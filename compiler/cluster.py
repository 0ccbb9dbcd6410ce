"""A Ray cluster: somebody's, or one that is started on this machine."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skipc.compiler.errors import ClusterError
from skipc.compiler.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

LOCAL = "local"
_AUTO = "auto"
_EXPECTED = f"Give HOST:PORT of a running cluster, or {LOCAL!r}."
_ANSWERS_WITHIN_S = 10.0
_LOOPBACK = "127.0.0.1"


def check_cluster(address: str, extra: str = "ray") -> None:
    """Checks, before anything else is done, that there may be a cluster at an address.

    Ray itself tries for minutes where nothing listens. ``extra`` is what installs Ray.

    Raises:
        ClusterError: Nothing listens there, or it is no address.
        ExtraMissingError: Ray is not installed.
    """
    require("ray", extra)
    if address in (LOCAL, _AUTO):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(f"--ray {address!r}: not an address. {_EXPECTED}")
    try:
        place = (host.strip("[]"), int(port))
        socket.create_connection(place, _ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise ClusterError(
            f"--ray {address!r}: cannot be reached: {reason}. {_EXPECTED}"
        ) from cause


@contextmanager
def connected(address: str, extra: str = "ray") -> Iterator[ModuleType]:
    """Yields Ray, connected to the cluster at an address; one of this machine is ended again.

    Raises:
        ClusterError: There is no such cluster.
        ExtraMissingError: Ray is not installed.
    """
    ray = require("ray", extra)
    own = {
        "num_cpus": os.cpu_count(),
        "include_dashboard": False,
        "_node_ip_address": _LOOPBACK,
    }
    local = address == LOCAL
    try:
        ray.init(
            address=None if local else address,
            log_to_driver=False,
            logging_level="error",
            **(own if local else {}),
        )
    # Ray raises ConnectionError, ValueError, RuntimeError ...
    except Exception as cause:
        raise ClusterError(
            f"--ray {address!r}: cannot be reached: {cause} {_EXPECTED}"
        ) from cause
    try:
        yield ray
    finally:
        ray.shutdown()

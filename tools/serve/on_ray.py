"""A server on Ray Serve: replicas on many machines, each with an engine of its own."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from skipc.compiler.cluster import LOCAL, connected
from skipc.compiler.extras import require
from skipc.tools.serve.batcher import MOST_WAITING
from skipc.tools.serve.errors import ServeError
from skipc.tools.serve.metrics import EXTRA, merged
from skipc.tools.serve.service import Service, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

APPLICATION = "skipc"
_PUSHED_EACH_S = 1.0
_SILENT_S = 30.0
_DRAINS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a bundle is deployed.

    Attributes:
        address: The cluster's address, or ``local``.
        replicas: The fewest and the most; Ray Serve scales between them.
        host: Where its proxies listen.
        port: And at which port.
    """

    address: str
    replicas: tuple[int, int]
    host: str
    port: int


def serve(
    settings: Settings, manifest_sha256: str, deployment: Deployment, ready: Callable[[], None]
) -> None:
    """Serves until SIGINT or SIGTERM, then answers what came before that.

    ``manifest_sha256`` is the bundle's; a replica that finds another one there refuses to
    start. ``ready`` is called once requests are answered.

    Raises:
        ServeError: It cannot be deployed so.
        ClusterError: There is no such cluster.
        ExtraMissingError: Ray Serve is not installed.
    """
    require("ray.serve", EXTRA)
    # Ray reports its use to its makers unless told otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # Ray sets handlers of its own when it starts.
    with connected(deployment.address, EXTRA) as ray, _until_stopped() as stopped:
        from ray import serve as ray_serve

        try:
            pages = ray.remote(num_cpus=0)(_Pages).remote()
            quiet = {"enable_access_log": False, "log_level": "WARNING"}
            place = {"host": deployment.host, "port": deployment.port}
            ray_serve.start(http_options=place, logging_config=quiet)
            replicas = ray_serve.deployment(_Replica).options(
                name=APPLICATION,
                max_ongoing_requests=2 * MOST_WAITING,
                graceful_shutdown_timeout_s=_DRAINS_WITHIN_S,
                ray_actor_options={"num_cpus": settings.threads or 1},
                logging_config=quiet,
                **_scaling(deployment.replicas),
            )
            bound = replicas.bind(settings, manifest_sha256, pages)
            ray_serve.run(bound, name=APPLICATION, route_prefix="/")
            if deployment.address == LOCAL:
                _check_reached(deployment)
        # What Ray raises here has no kind of its own.
        except Exception as cause:
            raise ServeError(f"Ray Serve cannot serve it: {cause}") from cause
        ready()
        stopped.wait()
        ray_serve.delete(APPLICATION)  # once it has answered what it was asked


@contextmanager
def _until_stopped() -> Iterator[Event]:
    """Yields an event that SIGINT or SIGTERM sets."""
    stopped = Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _scaling(replicas: tuple[int, int]) -> dict[str, Any]:
    fewest, most = replicas
    if fewest == most:
        return {"num_replicas": most}
    return {"autoscaling_config": {"min_replicas": fewest, "max_replicas": most}}


def _check_reached(deployment: Deployment) -> None:
    """Raises ``ServeError`` where somebody else answers at the port, or nobody."""
    any_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = any_host.get(deployment.host, deployment.host)
    url = f"http://{host}:{deployment.port}/v2/health/ready"
    try:
        urlopen(url, timeout=10).close()
    except (HTTPError, URLError, OSError) as cause:
        raise ServeError(f"{url} does not answer: {cause}. Give another --port.") from cause


class _Replica:
    """One process of the deployment. Ray calls it for each request."""

    def __init__(self, settings: Settings, manifest_sha256: str, pages: Any) -> None:
        from ray import serve as ray_serve

        self._service = Service(settings)
        if self._service.manifest_sha256 != manifest_sha256:
            self._service.close()
            raise ServeError(
                f"{settings.bundle}: another bundle lies there than the one that was deployed."
                " Put the same one at the same place on every machine."
            )
        self._name = ray_serve.get_replica_context().replica_id.unique_id
        self._pages, self._ended = pages, Event()
        self._service.start()
        Thread(target=self._push, name="skipc-metrics", daemon=True).start()

    async def __call__(self, request: Any) -> Any:
        """Returns the answer to one of Starlette's requests."""
        from starlette.responses import Response

        if request.url.path.rstrip("/") == "/metrics":
            await self._pages.put.remote(self._name, self._service.metrics())
            page = merged(await self._pages.all.remote())
            return Response(page, media_type="text/plain; version=0.0.4")
        body = await request.body()
        answer = await self._service.answer(
            request.method, request.scope["path"], request.headers, body
        )
        return Response(answer.body, answer.status, dict(answer.headers))

    def check_health(self) -> None:
        """Raises where the replica has to be replaced."""
        if not self._service.batcher.alive:
            raise ServeError("the replica's thread has ended.")

    def __del__(self) -> None:
        """Ends the replica; Ray calls it once it has answered what it was asked."""
        if hasattr(self, "_ended"):
            self._ended.set()
            self._service.close()

    def _push(self) -> None:
        import ray

        while not self._ended.wait(_PUSHED_EACH_S):
            ray.get(self._pages.put.remote(self._name, self._service.metrics()))


class _Pages:
    """The last page of metrics of each replica that is alive."""

    def __init__(self) -> None:
        self._pages: dict[str, tuple[float, bytes]] = {}

    def put(self, replica: str, page: bytes) -> None:
        """Takes note of a replica's page."""
        self._pages[replica] = time.monotonic(), page

    def all(self) -> dict[str, bytes]:
        """Returns the pages; those of replicas that fell silent are dropped."""
        oldest_s = time.monotonic() - _SILENT_S
        self._pages = {name: p for name, p in self._pages.items() if p[0] >= oldest_s}
        return {name: page for name, (_, page) in sorted(self._pages.items())}

"""A bundle behind the KServe v2 protocol, whatever carries its messages."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import unquote

from skipc.runtime import (
    AdaptiveEngine,
    Budget,
    BudgetError,
    Bundle,
    InputError,
    SkipcError,
)
from skipc.runtime.bundle.tensors import corner_sizes
from skipc.runtime.call.arrays import InputChecker
from skipc.runtime.governor.budget import checked_deadline_ms
from skipc.tools.serve.batcher import NO_LIMITS, Batcher, Limits
from skipc.tools.serve.errors import RequestError
from skipc.tools.serve.metrics import Metrics
from skipc.tools.serve.protocol import (
    HEADER_LENGTH,
    VERSION,
    Message,
    check_outputs,
    decoded,
    described,
    encoded,
    most_bytes,
)
from skipc.tools.serve.requests import Joining
from skipc.tools.serve.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.runtime.clock import Clock

_LOG = logging.getLogger(__name__)
_JSON, _BYTES = "application/json", "application/octet-stream"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATHS = (
    "/v2, /v2/health/live, /v2/health/ready, /v2/models/{0}, /v2/models/{0}/ready,"
    " /v2/models/{0}/infer, /metrics"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is served, and how.

    Attributes:
        bundle: The bundle's folder.
        target: Whose engines; None as ``AdaptiveEngine.open`` chooses.
        threads: Threads of a call; None for the backend's default.
        limits: What requests are granted.
        min_accuracy: Configurations below it do not run.
        configuration: The one that always runs; None for the governor's choice.
    """

    bundle: str
    target: str | None = None
    threads: int | None = None
    limits: Limits = NO_LIMITS
    min_accuracy: float | None = None
    configuration: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Service:
    """Answers requests until it is closed, from an engine of its own.

    Raises:
        SkipcError: The engine cannot be opened so.
        ExtraMissingError: prometheus-client is not installed.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        bundle = Bundle.open(settings.bundle)
        manifest = self._manifest = bundle.manifest
        self.manifest_sha256 = bundle.manifest_sha256
        self._watch = Watch(bundle)
        budget = Budget(
            latency_ms=settings.limits.latency_ms, min_accuracy=settings.min_accuracy
        )
        self._checker = InputChecker(manifest.inputs, manifest.dimensions)
        self.most_bytes = most_bytes(manifest.inputs, corner_sizes(manifest.dimensions)[2])
        with ExitStack() as stack:
            engine = stack.enter_context(
                AdaptiveEngine.open(
                    settings.bundle, budget, settings.target, settings.threads, clock=clock
                )
            )
            engine.pin(settings.configuration)
            accuracies = {
                each.name: each.metrics.get("accuracy", 0.0)
                for each in manifest.configurations
            }
            self._metrics = Metrics(accuracies, lambda: len(self.batcher))
            joining = Joining(manifest.inputs, manifest.outputs, manifest.dimensions)
            self.batcher = Batcher(
                engine, joining, settings.limits, self._metrics, self._watch.check, clock
            )
            self._resources = stack.pop_all()
        self._closing = False

    @property
    def name(self) -> str:
        """The model's name in paths: the bundle's."""
        return self._manifest.name

    def start(self) -> None:
        """Answers from now on."""
        self.batcher.start()

    def close(self) -> None:
        """Answers all that wait, then closes the engine."""
        self._closing = True
        self.batcher.close()
        self._resources.close()

    def check_ready(self) -> None:
        """Raises ``RequestError`` where requests would not be answered."""
        if self._closing:
            raise RequestError("the server is shutting down.", 503)
        if not self.batcher.alive:
            raise RequestError("the server's thread has ended. Start the server again.", 503)
        self._watch.check()

    def metrics(self) -> bytes:
        """Returns the page of metrics."""
        return self._metrics.page()

    async def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Returns the answer to an HTTP request; ``headers`` by their names in lower case."""
        arrived_ms = self.batcher.now_ms
        try:
            words = [unquote(word) for word in path.strip("/").split("/")]
            if words[:2] == ["v2", "models"] and len(words) > 2:
                return await self._model(method, words[2:], headers, body, arrived_ms)
            return self._about(method, words)
        except RequestError as refused:
            return _error(refused)
        except Exception as failure:
            _LOG.exception("a request failed")
            return _error(RequestError(f"the server failed: {failure!r}.", 500))

    def _about(self, method: str, words: list[str]) -> Answer:
        """Answers what is asked about the server."""
        _check_method(method, "GET")
        if words == ["v2"]:
            about = {"name": "skipc", "version": version("skipc")}
            return _json({**about, "extensions": ["binary_tensor_data"]})
        if words == ["v2", "health", "live"]:
            return _json({"live": True})
        if words == ["v2", "health", "ready"]:
            self.check_ready()
            return _json({"ready": True})
        if words == ["metrics"]:
            return Answer(200, {"content-type": _METRICS_TYPE}, self.metrics())
        raise self._no_path("/".join(words))

    async def _model(
        self,
        method: str,
        words: list[str],
        headers: Mapping[str, str],
        body: bytes,
        arrived_ms: float,
    ) -> Answer:
        """Answers what is asked of a model; ``words`` begin with its name."""
        name, *rest = words
        if name != self.name:
            raise RequestError(f"there is no model {name!r}. It is {self.name!r}.", 404)
        if rest[:1] == ["versions"] and len(rest) > 1:
            if rest[1] != VERSION:
                raise RequestError(f"there is no version {rest[1]!r}. It is {VERSION!r}.", 404)
            rest = rest[2:]
        if rest == ["infer"]:
            _check_method(method, "POST")
            return await self._infer(headers, body, arrived_ms)
        _check_method(method, "GET")
        if rest == ["ready"]:
            self.check_ready()
            return _json({"name": name, "ready": True})
        if rest:
            raise self._no_path("/".join(["v2", "models", *words]))
        return _json(
            {
                "name": name,
                "versions": [VERSION],
                "platform": "skipc",
                "inputs": described(self._manifest.inputs),
                "outputs": described(self._manifest.outputs),
            }
        )

    async def _infer(
        self, headers: Mapping[str, str], body: bytes, arrived_ms: float
    ) -> Answer:
        outputs, outcome = self._manifest.outputs, "refused"
        latency_ms = None
        try:
            if len(body) > self.most_bytes:
                raise RequestError(
                    f"the request has more than the {self.most_bytes} bytes that the network's"
                    " largest inputs may take. Send fewer rows in one request.",
                    413,
                )
            request, arrays = decoded(_message(headers, body), self._manifest.inputs)
            check_outputs(request, outputs)
            checked = self._checker.check(arrays)
            granted_ms = checked_deadline_ms(request.parameters.latency_ms)
            answered = await asyncio.wrap_future(
                self.batcher.submit(checked, granted_ms, arrived_ms)
            )
            message = encoded(self.name, request, answered, outputs)
            outcome = "in_time" if answered.in_time else "late"
            latency_ms = answered.latency_ms
        except (InputError, BudgetError) as unfit:
            raise RequestError(str(unfit)) from unfit
        except RequestError as refused:
            outcome = "failed" if refused.status == 500 else "refused"
            raise
        except SkipcError as failure:
            outcome = "failed"
            raise RequestError(str(failure), 500) from failure
        except asyncio.CancelledError:
            outcome = "closed"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._metrics.ended(outcome, latency_ms)
        if message.json_bytes is None:
            return Answer(200, {"content-type": _JSON}, message.body)
        length = {HEADER_LENGTH: str(message.json_bytes)}
        return Answer(200, {"content-type": _BYTES, **length}, message.body)

    def _no_path(self, path: str) -> RequestError:
        return RequestError(f"there is no '/{path}'. Known: {_PATHS.format(self.name)}.", 404)


def _message(headers: Mapping[str, str], body: bytes) -> Message:
    if headers.get("content-encoding", "identity") != "identity":
        raise RequestError("a Content-Encoding is not read here. Send it as it is.", 415)
    text = headers.get(HEADER_LENGTH)
    if text is None:
        return Message(body)
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise RequestError(f"{HEADER_LENGTH}: {text[:40]!r} is no number of bytes.")
    return Message(body, int(text))


def _check_method(method: str, expected: str) -> None:
    if method != expected:
        raise RequestError(f"{method} is not answered here, only {expected}.", 405)


def _json(document: Mapping[str, object]) -> Answer:
    return Answer(200, {"content-type": _JSON}, json.dumps(document).encode())


def _error(refused: RequestError) -> Answer:
    return Answer(
        refused.status, {"content-type": _JSON}, json.dumps({"error": str(refused)}).encode()
    )

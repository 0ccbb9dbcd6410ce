"""What a server counts, as a page that Prometheus reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

EXTRA = "serve"
OUTCOMES = ("in_time", "late", "refused", "failed", "closed")
_SECONDS = (*(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5), *(1.0, 2.5, 5.0, 10.0))
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts requests and calls.

    Args:
        accuracies: Of each configuration, where they are known.
        waiting: Returns how many requests wait.

    Raises:
        ExtraMissingError: prometheus-client is not installed.
    """

    def __init__(self, accuracies: Mapping[str, float], waiting: Callable[[], int]) -> None:
        library = require("prometheus_client", EXTRA)
        library.disable_created_metrics()  # two lines for each count, which nobody reads
        self._library = library
        registry = self._registry = library.CollectorRegistry()
        requests = library.Counter(
            "skipc_requests",
            "Requests by how they ended: answered in_time or late, refused, failed, or closed"
            " by the client.",
            ["outcome"],
            registry=registry,
        )
        self._requests = {outcome: requests.labels(outcome) for outcome in OUTCOMES}
        self._seconds = library.Histogram(
            "skipc_request_seconds",
            "From a request's arrival to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        calls = library.Counter(
            "skipc_calls", "Calls of the engine.", ["configuration"], registry=registry
        )
        rows = library.Counter(
            "skipc_rows", "Rows in these calls.", ["configuration"], registry=registry
        )
        self._calls = {name: calls.labels(name) for name in accuracies}
        self._rows = {name: rows.labels(name) for name in accuracies}
        self._batch = library.Histogram(
            "skipc_batch_rows", "Rows of a call.", buckets=_ROWS, registry=registry
        )
        library.Gauge("skipc_waiting", "Requests that wait.", registry=registry).set_function(
            waiting
        )
        known = library.Gauge(
            "skipc_accuracy", "Of each configuration.", ["configuration"], registry=registry
        )
        for name, accuracy in accuracies.items():
            known.labels(name).set(accuracy)

    def called(self, configuration: str, rows: int) -> None:
        """Takes note of a call."""
        self._calls[configuration].inc()
        self._rows[configuration].inc(rows)
        self._batch.observe(rows)

    def ended(self, outcome: str, latency_ms: float | None = None) -> None:
        """Takes note of a request; ``latency_ms`` of one that was answered."""
        self._requests[outcome].inc()
        if latency_ms is not None:
            self._seconds.observe(latency_ms / 1000)

    def page(self) -> bytes:
        """Returns what was counted, in Prometheus' text format."""
        page: bytes = self._library.generate_latest(self._registry)
        return page


def merged(pages: Mapping[str, bytes]) -> bytes:
    """Returns the pages of several replicas as one, each with a label ``replica``."""
    library = require("prometheus_client", EXTRA)
    parser = require("prometheus_client.parser", EXTRA)
    families: dict[str, Any] = {}
    for replica, page in pages.items():
        for family in parser.text_string_to_metric_families(page.decode()):
            whole = families.setdefault(family.name, family)
            samples = [
                each._replace(labels={**each.labels, "replica": replica})
                for each in family.samples
            ]
            whole.samples = samples if whole is family else [*whole.samples, *samples]
    registry = library.CollectorRegistry()
    registry.register(_Collected(families.values()))
    whole_page: bytes = library.generate_latest(registry)
    return whole_page


class _Collected:
    def __init__(self, families: Iterable[Any]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Any]:
        return self._families

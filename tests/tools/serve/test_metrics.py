from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from skipc.tools.serve.metrics import Metrics, merged


def _samples(page):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def _counted(in_time=0):
    metrics = Metrics({"full": 0.95, "fast": 0.9}, lambda: 4)
    metrics.called("fast", 3)
    for _ in range(in_time):
        metrics.ended("in_time", 12.0)
    metrics.ended("refused")
    return metrics.page()


def test_a_page_says_what_ran_and_how_requests_ended():
    found = _samples(_counted(in_time=2))
    assert found["skipc_calls_total", ("configuration", "fast")] == 1
    assert found["skipc_rows_total", ("configuration", "fast")] == 3
    assert found["skipc_rows_total", ("configuration", "full")] == 0
    assert found["skipc_requests_total", ("outcome", "in_time")] == 2
    assert found["skipc_requests_total", ("outcome", "refused")] == 1
    assert found["skipc_request_seconds_count",] == 2
    assert found["skipc_request_seconds_bucket", ("le", "0.01")] == 0
    assert found["skipc_request_seconds_bucket", ("le", "0.025")] == 2
    assert found["skipc_batch_rows_sum",] == 3
    assert found["skipc_waiting",] == 4
    assert found["skipc_accuracy", ("configuration", "full")] == 0.95


def test_pages_of_replicas_become_one_that_tells_them_apart():
    page = merged({"a": _counted(1), "b": _counted(3)})
    assert page.decode().count("# TYPE skipc_requests_total counter") == 1
    found = _samples(page)
    outcome = ("outcome", "in_time")
    assert found["skipc_requests_total", outcome, ("replica", "a")] == 1
    assert found["skipc_requests_total", outcome, ("replica", "b")] == 3
    assert found["skipc_calls_total", ("configuration", "fast"), ("replica", "b")] == 1

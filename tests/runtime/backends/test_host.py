from __future__ import annotations

import pytest

from skipc.runtime.backends.host import (
    cpu_features,
    default_threads,
    host_key,
    physical_cores,
    stale_reason,
)

X86 = """processor\t: 0
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse sse4_1 avx avx2 fma

processor\t: 1
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse sse4_1 avx avx2 fma

processor\t: 2
physical id\t: 0
core id\t\t: 1
flags\t\t: fpu sse sse4_1 avx

processor\t: 3
physical id\t: 1
core id\t\t: 1
flags\t\t: fpu sse sse4_1 avx avx2
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm\n\nprocessor\t: 1\nFeatures\t: fp asimd\n"


def test_host_key_holds_the_cpu_and_the_librarys_version() -> None:
    key = host_key("onnxruntime", "1.31.1")
    assert sorted(key) == ["architecture", "cpu_features", "onnxruntime"]
    assert key["onnxruntime"] == "1.31.1"
    assert all(key.values())


@pytest.mark.parametrize(
    ("cpuinfo", "expected"), [(X86, "avx sse4_1"), (ARM, "asimd"), ("", ""), ("nonsense", "")]
)
def test_cpu_features_are_those_that_every_processor_has(cpuinfo: str, expected: str) -> None:
    assert cpu_features(cpuinfo) == expected


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [({0, 1, 2, 3}, 3), ({0, 1}, 1), ({1, 3}, 2), ({7}, 1), (set(), 1)],
)
def test_physical_cores_counts_two_threads_of_a_core_once(
    allowed: set[int], expected: int
) -> None:
    assert physical_cores(X86, allowed) == expected


def test_physical_cores_counts_processors_when_no_core_ids_are_given() -> None:
    assert physical_cores(ARM, {0, 1}) == 2


def test_default_threads_is_at_least_one() -> None:
    assert default_threads() >= 1


def test_stale_reason_is_none_when_the_keys_are_equal() -> None:
    key = host_key("onnxruntime", "1.31.1")
    assert stale_reason(key, dict(key)) is None


def test_stale_reason_names_every_difference() -> None:
    built = {"architecture": "x86_64", "cpu_features": "avx avx2", "onnxruntime": "1.23.2"}
    here = {"architecture": "aarch64", "cpu_features": "asimd avx", "onnxruntime": "1.31.1"}
    assert stale_reason(built, here) == (
        "architecture was x86_64, here it is aarch64;"
        " this CPU lacks avx2 and has asimd besides; onnxruntime was 1.23.2, here it is 1.31.1"
    )
    assert stale_reason({}, {"onnxruntime": "1"}) == "onnxruntime was unknown, here it is 1"

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import (
    AdaptiveEngine,
    Budget,
    EngineError,
    FakeClock,
    FormatError,
    OperatingPoint,
    TensorSpec,
    VersionError,
)
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.call.trace import (
    Trace,
    TracedCall,
    TracedConfiguration,
    read_trace,
    trace_lines,
    trace_of,
)

HEAD = {
    "format": "skipc.trace/2",
    "engine": "net.skipc",
    "ranked_by": "accuracy",
    "meter_estimated": False,
    "configurations": [{"name": "full", "rank": 0.95, "p50_ms": 8.0, "energy_mj": 80.0}],
}
CALL = {
    "time_s": 0.012,
    "configuration": "full",
    "stage": 0,
    "stopped_by": "end",
    "latency_ms": 8.1,
    "predicted_ms": 9.4,
    "feasible": True,
    "binding": "",
    "limit_ms": 12.0,
    "budget": {"latency_ms": 12.0, "quantile": 0.99},
    "energy_mj": 80.0,
    "metered_mj": None,
    "failure": "",
    "reason": "'full' is the best configuration, and no budget is in its way.",
    "route": ["full"],
    "units": {},
    "mode": "",
}

numbers = st.floats(-1e15, 1e15)
limits = st.floats(1e-9, 1e15)
texts = st.text(st.characters())  # lone surrogates, too
names = st.text(st.characters(), min_size=1)


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    granted = draw(
        st.fixed_dictionaries(
            {"quantile": st.floats(0.5, 0.999999)},
            optional={
                "latency_ms": limits,
                "energy_mj": limits,
                "power_w": limits,
                "min_accuracy": numbers,
            },
        )
    )
    if draw(st.booleans()):
        granted |= {"energy_j": draw(limits), "horizon_s": draw(limits)}
    if "power_w" in granted and draw(st.booleans()):
        granted["window_s"] = draw(limits)
    return Budget(**granted)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    listed = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    calls = st.builds(
        TracedCall,
        time_s=numbers,
        configuration=st.sampled_from(listed),
        stage=st.integers(0, 9),
        stopped_by=st.sampled_from(["end", "test", "deadline"]),
        latency_ms=numbers,
        predicted_ms=numbers,
        feasible=st.booleans(),
        binding=texts,
        limit_ms=st.none() | limits,
        budget=budgets(),
        energy_mj=numbers,
        metered_mj=st.none() | numbers,
        failure=texts,
        reason=texts,
    )
    return Trace(
        draw(texts),
        draw(names),
        tuple(
            TracedConfiguration(name, draw(numbers), draw(numbers), draw(numbers))
            for name in listed
        ),
        draw(st.booleans()),
        tuple(draw(st.lists(calls, max_size=5))),
    )


@given(traces())
def test_what_is_written_is_read(trace: Trace) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "t.jsonl")
        path.write_text("".join(trace_lines(trace)), encoding="ascii")
        assert read_trace(path) == trace


def written(folder: Path, *lines: object, end: str = "\n") -> Path:
    """A file of these lines: text as it is, everything else as JSON."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path = folder / "t.jsonl"
    path.write_text("\n".join(texts) + end, encoding="utf-8")
    return path


def test_an_engines_calls_are_written_and_read(tmp_path: Path) -> None:
    def outputs(name: str, _: object) -> dict[str, np.ndarray]:
        if name == "full" and clock.now_ns() > 30e6:
            raise EngineError("no memory")
        return {"y": np.zeros(1)}

    clock = FakeClock()
    points = (
        OperatingPoint("full", 0.95, 8.0, 10.0, energy_mj=80.0),
        OperatingPoint("fast", 0.90, 2.0, 3.0, energy_mj=20.0),
    )
    backend = NullBackend({"full": 8.0, "fast": 2.0}, outputs, clock)
    with AdaptiveEngine(
        points,
        (TensorSpec("x", "float32", (1,)),),
        backend,
        budget=Budget(latency_ms=20),
        clock=clock,
        warm_up_runs=0,
        ranked_by="accuracy",
    ) as engine:
        for deadline_ms in (None, None, 5.0, None, None):
            engine(np.zeros(1, np.float32), deadline_ms)
        trace = trace_of("net.skipc", engine.stats(), engine.trace())
    assert read_trace(written(tmp_path, *map(str.rstrip, trace_lines(trace)))) == trace
    assert [call.configuration for call in trace.calls] == [
        *("full", "full", "fast", "full", "full", "fast")
    ]
    assert [call.limit_ms for call in trace.calls] == [20, 20, 5, 20, 20, 20]
    assert [call.failure for call in trace.calls] == ["", "", "", "", "no memory", ""]
    assert [call.energy_mj for call in trace.calls] == [80, 80, 20, 80, 80, 20]
    assert trace.calls[0].time_s == 0.008
    assert "20 ms" in trace.calls[0].reason or "no budget" in trace.calls[0].reason
    assert [each.name for each in trace.configurations] == ["full", "fast"]


def test_a_file_needs_no_calls_and_may_have_empty_lines(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, HEAD, end="")).calls == ()
    trace = read_trace(written(tmp_path, HEAD, "", CALL, "\r", CALL, end=""))
    assert len(trace.calls) == 2
    assert not trace.cut_short


@pytest.mark.parametrize("length", [1, 2, 30, 200, -1])
def test_a_last_line_cut_short_is_left_out_and_said(tmp_path: Path, length: int) -> None:
    path = written(tmp_path, HEAD, CALL, json.dumps(CALL)[:length], end="")
    trace = read_trace(path)
    assert len(trace.calls) == 1
    assert trace.cut_short


def test_a_line_is_not_cut_short_if_it_ends(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"t\.jsonl: line 3: not valid JSON"):
        read_trace(written(tmp_path, HEAD, CALL, json.dumps(CALL)[:50]))
    with pytest.raises(FormatError, match="line 2: not valid JSON"):
        read_trace(written(tmp_path, HEAD, json.dumps(CALL)[:50], CALL, end=""))
    with pytest.raises(FormatError, match="line 1: not valid JSON"):
        read_trace(written(tmp_path, json.dumps(HEAD)[:50]))
    with pytest.raises(FormatError, match="line 3: not valid JSON"):
        read_trace(written(tmp_path, HEAD, CALL, "done.", end=""))


@pytest.mark.parametrize("length", [1, 50, -1])
def test_a_file_cut_short_in_its_first_line_says_so(tmp_path: Path, length: int) -> None:
    with pytest.raises(FormatError, match="ends within its first line, so no call is in it"):
        read_trace(written(tmp_path, json.dumps(HEAD)[:length], end=""))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"latency_ms": float("nan")}, "line 3: 'latency_ms' must be a finite number"),
        ({"time_s": float("inf")}, "line 3: 'time_s' must be a finite number, found inf"),
        ({"time_s": 1e16}, "'time_s' is 1e+16. Expected at most 1e+15"),
        ({"metered_mj": -1e300}, "'metered_mj' is -1e+300. Expected at most"),
        ({"latency_ms": "8"}, "'latency_ms' must be a number, found '8'"),
        ({"latency_ms": 10**400}, "'latency_ms' must be a number that a float can hold"),
        ({"latency_ms": None}, "'latency_ms' must be a number, found None"),
        ({"feasible": 1}, "'feasible' must be true or false"),
        ({"limit_ms": []}, "'limit_ms' must be a number"),
        ({"latancy_ms": 1}, "unknown key 'latancy_ms'. Did you mean 'latency_ms'?"),
        ({"configuration": "fulll"}, "'fulll' is not listed in line 1. Did you mean 'full'?"),
        ({"configuration": ""}, "'configuration' must be a non-empty string"),
        ({"configuration": ["full"]}, "'configuration' must be a non-empty string"),
        ({"budget": None}, "budget: expected an object, found None"),
        ({"budget": {"latency_ms": -1}}, "budget: latency_ms=-1.0 is not a limit"),
        ({"budget": {"energy_j": 1}}, "belong together"),
        ({"budget": {"latency": 1}}, "unknown key 'latency'. Did you mean 'latency_ms'?"),
    ],
)
def test_wrong_calls_are_told(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    path = written(tmp_path, HEAD, CALL, CALL | changes, CALL)
    with pytest.raises(FormatError) as error:
        read_trace(path)
    assert f"{path}: line 3" in str(error.value)
    assert told in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 400


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "skipc.bundle/1"}, "'format' must be 'skipc.trace/2', found 'skipc.bun"),
        ({"engine": 3}, "'engine' must be a string"),
        ({"configurations": {}}, "'configurations' must be a list"),
        ({"configurations": HEAD["configurations"] * 2}, "'full' is listed twice"),
        ({"configurations": [{"name": "full"}]}, "the key 'rank' is missing"),
        ({"calls": []}, "unknown key 'calls'"),
    ],
)
def test_wrong_heads_are_told(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(FormatError, match="line 1") as error:
        read_trace(written(tmp_path, HEAD | changes, CALL))
    assert told in str(error.value)


def test_another_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match=r"written in format 'skipc\.trace/1'"):
        read_trace(written(tmp_path, HEAD | {"format": "skipc.trace/1"}))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "its first line is empty"),
        (b"\n\n", "its first line is empty"),
        (b"\x00" * 100, "line 1: not valid JSON"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "line 1: not valid JSON"),
        (b"[" * 100_000, "line 1: not valid JSON"),
        (b"[1, 2]", "line 1: 'format' must be"),
        (b'{"format": 1, "format": 2}', "the key 'format' is given twice"),
        (json.dumps(HEAD).encode("utf-16"), "line 1: not valid JSON"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        read_trace(path)
    assert told in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 300


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a regular file"):
        read_trace(tmp_path)
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        read_trace(tmp_path / "absent.jsonl")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(FormatError, match="more than the 67108864 bytes"):
        read_trace(path)


def test_the_example_in_the_module_is_one(tmp_path: Path) -> None:
    import skipc.runtime.call.trace as module

    assert module.__doc__ is not None
    text = module.__doc__[module.__doc__.index("{") :].replace(", ...]", "]")
    head, end = json.JSONDecoder().raw_decode(text)
    call, _ = json.JSONDecoder().raw_decode(text[end:].lstrip())
    assert (set(head), set(call)) == (set(HEAD), set(CALL))
    assert len(read_trace(written(tmp_path, head, call)).calls) == 1

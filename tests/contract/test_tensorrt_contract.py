"""Every name that skipc uses of TensorRT and CUDA, against the bindings that devices have.

The classic bindings are real wheels; their libraries are not on a package index, so a dozen
lines of C stand in for the symbols that an import needs. Nothing is called, only looked at.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.tensorrt_api import (
    CLASSES,
    CUDA_FUNCTIONS,
    CUDA_NAMES,
    ENUMERATORS,
    FUNCTIONS,
    GUARDED,
    LACKING,
)
from tests.doubles import cudart, tensorrt
from tests.doubles.device import FakeDevice

ROOT = Path(__file__).parents[2]
WHEELS = Path(sys.prefix) / "bindings"
VERSIONS = {
    "10.3.0": ("tensorrt_bindings", 10),
    "10.16.1.11": ("tensorrt_bindings", 10),
    "11.0.0.114": ("tensorrt_bindings", 11),
    "11.4.0.106": ("tensorrt_bindings", 11),
    "rtx-1.4.0.76": ("tensorrt_rtx_bindings", 0),
    "rtx-1.7.1.116": ("tensorrt_rtx_bindings", 0),
}
FACTORIES = """
void *createInferBuilder_INTERNAL(void *a, int b) { return 0; }
void *createInferRefitter_INTERNAL(void *a, void *b, int c) { return 0; }
void *createInferRuntime_INTERNAL(void *a, int b) { return 0; }
void *createNvOnnxParser_INTERNAL(void *a, void *b, int c) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *a, void *b, int c) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
void *getBuilderPluginRegistry(int a) { return 0; }
void *getPluginRegistry(void) { return 0; }
unsigned char initLibNvInferPlugins(void *a, const char *b) { return 0; }
"""
SOURCES = (
    *(ROOT / "runtime/backends/tensorrt").glob("*.py"),
    *(ROOT / "compiler/targets/tensorrt").glob("*.py"),
)

Members = dict[str, dict[str, list[list[int]] | None]]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libraries of the names that the classic bindings load."""
    folder = tmp_path_factory.mktemp("libraries")
    source = folder / "factories.c"
    source.write_text(FACTORIES)
    for major in (10, 11):
        for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            file = f"lib{name}.so.{major}"
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", folder / file]
            subprocess.run([*command, source], check=True)
    return folder


@functools.cache
def members(version: str, libraries: Path) -> Members:
    module, _ = VERSIONS[version]
    path = WHEELS / version
    if not path.is_dir() and version == "rtx-1.7.1.116":
        path = None  # installed in the environment itself
    found = subprocess.run(
        [sys.executable, ROOT / "tests/contract/read_binding.py", module],
        env={"PYTHONPATH": str(path or ""), "LD_LIBRARY_PATH": str(libraries)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, f"{found.stderr}\nThe bindings come with `make test`."
    document = json.loads(found.stdout)
    assert document["version"] == version.removeprefix("rtx-")
    return document["classes"]


def fits(overloads: list[list[int]], given: int) -> bool:
    return any(least <= given <= most for least, most in overloads)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_there_and_takes_what_is_passed(version: str, libraries: Path) -> None:
    found = members(version, libraries)
    wrong = []
    for name, used in CLASSES.items():
        for member, count in used.items():
            there = found.get(name, {}).get(member, "missing")
            if there == "missing":
                wrong.append(f"{name}.{member} is missing")
            elif count is None and there is not None:
                wrong.append(f"{name}.{member} is no attribute")
            elif count is not None and (there is None or not fits(there, count)):
                wrong.append(f"{name}.{member} does not take {count}: {there}")
    for name, enumerators in ENUMERATORS.items():
        wrong += [f"{name}.{e} is missing" for e in enumerators if e not in found[name]]
    wrong += [f"{name}() is missing" for name in FUNCTIONS if name not in found[""]]
    assert wrong == []


@pytest.mark.parametrize("version", VERSIONS)
def test_guarded_names_are_where_the_table_says(version: str, libraries: Path) -> None:
    found = members(version, libraries)
    for name, lacking in LACKING.items():
        owner, _, member = name.partition(".")
        there = found.get(owner, {}).get(member, "missing")
        assert (there == "missing") == (version in lacking), name
        count = GUARDED[owner][member]
        if there != "missing" and count is not None:
            assert there is not None
            assert fits(there, count), name


# What the code calls the library's objects; the right-hand side is what of ours is called so.
OBJECTS = {
    "trt": (),
    "module": (),
    "builder": (),
    "definition": (),
    "parser": (),
    "config": (),
    "cache": ("timing_cache",),
    "engine": ("run",),
    "context": (),
    "refitter": (),
    "runtime": (),
    "_runtime": (),
    "error": (),
    "tensor": ("location", "offset_bytes", "size_bytes"),
}


def test_the_tables_name_all_that_the_code_uses_and_nothing_else() -> None:
    known = {
        member for table in (CLASSES, GUARDED) for used in table.values() for member in used
    }
    known |= {*CLASSES, *GUARDED, *FUNCTIONS}
    known |= {part for name in ENUMERATORS for part in name.split(".")}
    known |= {enumerator for names in ENUMERATORS.values() for enumerator in names}
    used: set[str] = set()
    words: set[str] = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)  # hasattr(parser, "load_initializer")
            if not isinstance(node, ast.Attribute):
                continue
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            words.add(node.attr)
            if owner in OBJECTS and node.attr not in OBJECTS[owner]:
                used.add(node.attr)
    assert used - known - {"__version__", "__name__"} == set()
    called_by_the_library = {"log", "phase_start", "step_complete", "phase_finish"}
    named = {e for members in CLASSES.values() for e in members if not e.startswith("__")}
    assert named - called_by_the_library - words == set()


def test_the_double_has_no_name_that_the_bindings_lack(libraries: Path) -> None:
    found = members("10.16.1.11", libraries)
    classes = {
        "Builder": tensorrt._Builder,
        "INetworkDefinition": tensorrt._Network,
        "IBuilderConfig": tensorrt._Config,
        "IOptimizationProfile": tensorrt._OptimizationProfile,
        "ITimingCache": tensorrt._Cache,
        "OnnxParser": tensorrt._OnnxParser,
        "ParserError": tensorrt._Error,
        "Runtime": tensorrt._Runtime,
        "ICudaEngine": tensorrt._Engine,
        "IExecutionContext": tensorrt._Context,
        "Refitter": tensorrt._Refitter,
        "OnnxParserRefitter": tensorrt._OnnxParserRefitter,
    }
    helpers = {"run", "missing"}
    for name, double in classes.items():
        for member, value in inspect.getmembers(double):
            if member.startswith("_") or not (callable(value) or isinstance(value, property)):
                continue
            if member in helpers:
                continue
            assert member in found[name], f"{name}.{member}"
            there = found[name][member]
            if callable(value) and there:
                count = len(inspect.signature(value).parameters) - 1
                assert fits(there, count), f"{name}.{member}"
    for name in ENUMERATORS:
        if name != "ILogger.Severity":
            for enumerator in getattr(tensorrt, name).__members__:
                assert enumerator in found[name], f"{name}.{enumerator}"


@pytest.mark.parametrize("version", ["cuda-12.9.10", "cuda-13.5.0"])
def test_cuda_bindings_have_what_is_called(version: str) -> None:
    script = (
        "import json, sys\n"
        "from cuda.bindings import runtime as r\n"
        "names = json.loads(sys.argv[1])\n"
        "def has(name):\n"
        "    value = r\n"
        "    for part in name.split('.'):\n"
        "        value = getattr(value, part, None)\n"
        "    return value is not None\n"
        "found = {n: (has(n), getattr(getattr(r, n, 0), '__doc__', '')) for n in names}\n"
        "print(json.dumps(found))"
    )
    names = [*CUDA_FUNCTIONS, *CUDA_NAMES]
    found = subprocess.run(
        [sys.executable, "-c", script, json.dumps(names)],
        env={"PYTHONPATH": str(WHEELS / version)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, f"{found.stderr}\nThe bindings come with `make test`."
    there = json.loads(found.stdout)
    assert [name for name in names if not there[name][0]] == []
    for name, given in CUDA_FUNCTIONS.items():
        first = there[name][1].splitlines()[0]
        inner = first[first.index("(") + 1 : first.rindex(")")]
        parameters = [part for part in inner.split(",") if part.strip()]
        required = [part for part in parameters if "=" not in part]
        assert len(required) <= given <= len(parameters), first


CALLS = """
from cuda.bindings import runtime as r
up, mode = r.cudaMemcpyKind.cudaMemcpyHostToDevice, r.cudaStreamCaptureMode(1)
event, graph, ready = r.cudaEvent_t(), r.cudaGraph_t(), r.cudaGraphExec_t()
assert int(event) == 0  # events are named by number
stream, place = 7, 4096
arguments = {
    "cudaGetDeviceProperties": (0,), "cudaMalloc": (256,), "cudaFree": (place,),
    "cudaMallocHost": (256,), "cudaFreeHost": (place,),
    "cudaMemcpyAsync": (place, place, 16, up, stream),
    "cudaStreamCreateWithFlags": (r.cudaStreamNonBlocking,), "cudaStreamDestroy": (stream,),
    "cudaStreamSynchronize": (stream,),
    "cudaEventCreateWithFlags": (r.cudaEventDisableTiming,),
    "cudaEventRecord": (event, stream), "cudaStreamWaitEvent": (stream, event, 0),
    "cudaEventSynchronize": (event,), "cudaEventElapsedTime": (event, event),
    "cudaEventDestroy": (event,), "cudaStreamBeginCapture": (stream, mode),
    "cudaStreamEndCapture": (stream,), "cudaGraphGetNodes": (graph,),
    "cudaGraphInstantiate": (graph, 0), "cudaGraphDestroy": (graph,),
    "cudaGraphLaunch": (ready, stream), "cudaGraphExecDestroy": (ready,),
    "cudaGetDeviceCount": (), "cudaMemGetInfo": (), "cudaGetDevice": (), "cudaSetDevice": (0,),
    "cudaGetLastError": (),
}
for name, given in arguments.items():
    found = getattr(r, name)(*given)
    assert isinstance(found, tuple) and isinstance(found[0], r.cudaError_t), name
    assert found[0] != r.cudaError_t.cudaSuccess or name == "cudaGetDeviceCount", name
print(*sorted(arguments))
"""


@pytest.mark.parametrize("version", ["cuda-12.9.10", "cuda-13.5.0"])
def test_cuda_bindings_take_the_types_that_are_passed(version: str) -> None:
    """Every function is called, with no device to be seen: it answers with an error code."""
    found = subprocess.run(
        [sys.executable, "-c", CALLS],
        env={"PYTHONPATH": str(WHEELS / version), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == sorted(CUDA_FUNCTIONS)


def test_the_cuda_double_has_no_name_that_the_code_does_not_use() -> None:
    double = cudart.FakeCudart(FakeDevice())
    names = {name for name in vars(type(double)) if name.startswith("cuda")}
    assert names == {*CUDA_FUNCTIONS} | {name.split(".")[0] for name in CUDA_NAMES}
    source = (ROOT / "runtime/backends/cuda/cuda_python.py").read_text()
    for name in CUDA_FUNCTIONS:
        assert name in source
        count = len(inspect.signature(getattr(double, name)).parameters)
        assert count >= CUDA_FUNCTIONS[name]

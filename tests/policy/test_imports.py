"""The runtime needs numpy and the standard library, and its folder can be copied."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BLOCK = """
import sys
BLOCKED = ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "tensorrt", "cuda",
           "pycuda", "pynvml", "click", "rich", "skipc.compiler", "skipc.profiles",
           "skipc.tools")
class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == word or name.startswith(word + ".") for word in BLOCKED):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
"""

IMPORT_ALL = """
import importlib, pkgutil
def import_all(package):
    found = [package.__name__]
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        found.append(module.name)
    return found
"""


def _run(code, cwd):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_runtime_module_imports_without_frameworks(tmp_path):
    code = f"{BLOCK}{IMPORT_ALL}import skipc.runtime\nprint(*import_all(skipc.runtime))"
    found = _run(code, tmp_path).split()
    assert {"skipc.runtime.adaptive", "skipc.runtime.backends.null"} <= set(found)
    assert "skipc.runtime.backends.onnxruntime.cpu" in found


def test_importing_the_runtime_loads_numpy_and_the_standard_library_only(tmp_path):
    code = """
import sys, numpy
before = {name.partition(".")[0] for name in sys.modules}
import skipc.runtime
after = {name.partition(".")[0] for name in sys.modules}
print(*(after - before - set(sys.stdlib_module_names)))
"""
    assert set(_run(code, tmp_path).split()) <= {"skipc"}


def test_runtime_can_be_imported_from_the_checkout():
    out = _run(
        f"{BLOCK}from runtime import AdaptiveEngine\nprint(AdaptiveEngine.__module__)", ROOT
    )
    assert out.strip() == "runtime.adaptive"


def test_runtime_can_be_copied_into_an_application(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "runtime", tmp_path / "app/vendored", ignore=ignore)
    (tmp_path / "app/__init__.py").write_text("")
    (tmp_path / "app/main.py").write_text("""
from app.vendored.backends import comes_from
from app.vendored.backends.null import NullBackend
class Stop(Exception): pass
def asked(action):
    try:
        action()
    except Exception as error:
        return comes_from(error)
def handler():
    raise Stop("a signal came")
def timeout():
    raise TimeoutError("a signal came")
def load():
    NullBackend({}, {}).load("no such graph")
print("ours:", asked(handler), asked(timeout), asked(load))
""")
    code = f"{BLOCK}{IMPORT_ALL}import app.vendored as v\nprint(*import_all(v), v.__file__)"
    out = _run(f"{code}\nimport app.main", tmp_path)
    assert "app.vendored.backends.null" in out
    assert str(tmp_path) in out
    assert "ours: False False True" in out

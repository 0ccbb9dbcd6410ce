"""The tree: what imports what, how large files are, nothing of one machine in it."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.policy.sources import ROOT, nodes_of, text_of

PACKAGES = ("compiler", "runtime", "profiles", "tools")
MAX_LINES = 450
MAX_CLASS_LINES = 250
MAX_TEST_LINES = 500
MAX_BYTES = 1_000_000

# Who may import whom: runtime <- profiles <- compiler <- tools.
MAY_IMPORT = {
    "runtime": set(),
    "profiles": {"runtime"},
    "compiler": {"profiles", "runtime"},
    "tools": {"compiler", "profiles", "runtime"},
}
SOURCES = sorted(
    file.relative_to(ROOT) for folder in PACKAGES for file in (ROOT / folder).rglob("*.py")
)
TESTS = sorted(file.relative_to(ROOT) for file in (ROOT / "tests").rglob("*.py"))
# A home or root folder, or a drive: a path of somebody's machine.
MACHINE_PATH = re.compile(r"(?<![\w.~/:<])(/(home|root|work|Users|mnt|data)/\w|[A-Z]:\\\\\w)")


def _files():
    """Every file that git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:  # a copy without its history
        folders = (*PACKAGES, "tests", "docs", "benchmarks")
        paths = [path for name in folders for path in (ROOT / name).rglob("*")]
        paths += ROOT.glob("*.*")
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def imported_packages(source, package):
    """Yields (line, package of ours) for each import in a file of ``package``."""
    for node in nodes_of(source):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "skipc" and len(parts) > 1 and parts[1] != package:
                yield node.lineno, parts[1]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    wrong = [
        f"{file}:{line}: imports skipc.{other}"
        for file in SOURCES
        if file.parts[0] == package
        for line, other in imported_packages(text_of(file), package)
        if other not in MAY_IMPORT[package]
    ]
    assert wrong == []


def test_import_check_finds_every_form():
    source = "import skipc.tools.cli\nfrom skipc import compiler\nfrom skipc.tools import x"
    assert list(imported_packages(source, "runtime")) == [
        *((1, "tools"), (2, "compiler"), (3, "tools"))
    ]


# Who may import whom inside the runtime, read upwards; the files beside the folders are below
# all of them, but for ``adaptive``, which is on top.
RUNTIME_ORDER = {
    "bundle": set(),
    "governor": set(),
    "meters": set(),
    "modes": {"bundle", "meters"},
    "backends": {"bundle"},
    "load": {"backends", "bundle", "governor", "meters"},
    "call": {"load", "backends", "bundle", "governor", "meters", "modes"},
}
BELOW_ALL = {"errors.py", "clock.py", "executing.py", "options.py"}


# The compiler's folders and files, the flow first: each imports only what stands after it.
COMPILER_ORDER = (
    *(
        "build",
        "int8_options",
        "sensitivity",
        "tolerate",
        "select",
        "policy",
        "routed",
        "parts",
    ),
    *("shared_ranges", "client", "prologue"),
    *("family", "configurations", "front", "front_files", "residual_scale", "norms"),
    *("remote", "targets", "axes", "read", "int8_parts", "verify"),
    *("recipes", "heads", "gates", "router", "camera", "beside", "bundle", "routes", "graph"),
    "network",
    *("calibration", "gating", "cut", "cluster", "extras", "errors"),
)


def imports_at_run_time(tree):
    """Yields (line, module) for each import that is not for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            # ``from skipc.compiler import axes`` names a folder, too.
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from imports_at_run_time(node)


def test_the_compilers_folders_import_down():
    wrong = []
    for file in SOURCES:
        if file.parts[0] != "compiler" or file == Path("compiler/__init__.py"):
            continue
        above = COMPILER_ORDER[: COMPILER_ORDER.index(file.parts[1].removesuffix(".py"))]
        for line, name in imports_at_run_time(nodes_of(text_of(file))[0]):
            if name.startswith("skipc.compiler.") and name.split(".")[2] in above:
                wrong.append(f"{file}:{line}: imports {name}")
    assert wrong == []


def relative_imports(file, source):
    """Yields (line, file of ours) for each relative import, those for types included."""
    for node in nodes_of(source):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for alias in node.names:
            places = (folder / f"{alias.name}.py", folder / alias.name / "__init__.py")
            modules = (folder.with_suffix(".py"), folder / "__init__.py")
            found = (place for place in (*places, *modules) if (ROOT / place).is_file())
            yield node.lineno, next(found)


def test_the_runtimes_folders_import_down():
    wrong = []
    for file in SOURCES:
        if file.parts[0] != "runtime" or file.name in ("adaptive.py", "__init__.py"):
            continue
        room = file.parts[1]
        allowed = BELOW_ALL | RUNTIME_ORDER.get(room, set()) | {room}
        for line, other in relative_imports(file, text_of(file)):
            if other.parts[1] not in allowed:
                wrong.append(f"{file}:{line}: imports {other}")
    assert wrong == []


def test_no_two_files_of_the_runtime_import_each_other():
    imported = {
        file: {other for _, other in relative_imports(file, text_of(file))}
        for file in SOURCES
        if file.parts[0] == "runtime"
    }
    left = None
    while left != imported:  # what imports, or is imported by, nothing left is in no circle
        left = imported
        used = set().union(*left.values())
        kept = {file: others & left.keys() for file, others in left.items() if file in used}
        imported = {file: others for file, others in kept.items() if others}
    assert sorted(map(str, imported)) == []


def test_relative_imports_are_found_in_every_form():
    source = (
        "from . import Sharing\nfrom ..errors import EngineError\nif TYPE_CHECKING:\n"
        "    from .cuda import pycuda\n    from ..governor import decide\n"
    )
    found = list(relative_imports(Path("runtime/backends/null.py"), source))
    assert [(line, str(other)) for line, other in found] == [
        (1, "runtime/backends/__init__.py"),
        (2, "runtime/errors.py"),
        (4, "runtime/backends/cuda/pycuda.py"),
        (5, "runtime/governor/decide.py"),
    ]


def test_only_tools_print():
    wrong = [
        f"{file}:{node.lineno}"
        for file in SOURCES
        if file.parts[0] != "tools"
        for node in nodes_of(text_of(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert wrong == []


def test_files_are_short():
    limits = dict.fromkeys(SOURCES, MAX_LINES) | dict.fromkeys(TESTS, MAX_TEST_LINES)
    long = {
        str(file): count
        for file, limit in limits.items()
        if (count := len(text_of(file).splitlines())) > limit
    }
    assert long == {}


def test_classes_are_short():
    long = {
        f"{file}: {node.name}": count
        for file in SOURCES
        for node in nodes_of(text_of(file))
        if isinstance(node, ast.ClassDef)
        and (count := node.end_lineno - node.lineno + 1) > MAX_CLASS_LINES
    }
    assert long == {}


def test_nothing_large_is_tracked():
    large = {path.name: size for path in _files() if (size := path.stat().st_size) > MAX_BYTES}
    assert large == {}


def test_no_file_names_a_path_of_somebodys_machine():
    found = []
    for path in _files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__):
            found += [f"{path.name}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_path_check_finds_paths_only():
    for bad in ('"/home/me/x"', "=/root/a", "C:\\\\x"):
        assert MACHINE_PATH.search(bad)
    for good in ("https://example.org/data/x", "tools/data/x", "<home/x>", "a ~/data/x"):
        assert not MACHINE_PATH.search(good)

"""The wheel holds what it should and nothing else, and its base install works."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.bundles import write_bundle, write_engines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
FOLDERS = ("compiler", "profiles", "runtime", "tools")
DATA = {
    "skipc/__init__.py",
    "skipc/py.typed",
    "skipc/compiler/front.schema.json",
    "skipc/compiler/py.typed",
    "skipc/profiles/py.typed",
    "skipc/runtime/FORMAT.md",
    "skipc/runtime/py.typed",
    "skipc/tools/py.typed",
    "skipc/tools/web/page.css",
    "skipc/tools/web/page.js",
}
BASE = ("numpy", "click", "rich")

# Only the wheel, the standard library and the base dependencies can be imported.
ISOLATED = """
import sys
wheel, site = sys.argv[1], sys.argv[2]
allowed = {"numpy", "click", "rich", "pygments", "markdown_it", "mdurl", "skipc", "tomli"}
sys.path[:] = [path for path in sys.path if "site-packages" not in path]
sys.path += [wheel, site]
class Finder:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        known = root in allowed or root.lstrip("_") in allowed
        if not known and root not in sys.stdlib_module_names:
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Finder(finder) for finder in sys.meta_path]
import skipc.runtime, skipc.tools
assert skipc.runtime.__file__.startswith(wheel), skipc.runtime.__file__
assert skipc.tools.__file__.startswith(wheel), skipc.tools.__file__
sys.argv[:] = ["skipc", *sys.argv[3:]]
if len(sys.argv) > 1:
    from skipc.tools.cli import main
    main()
"""


def _pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the tree, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in (*FOLDERS, "skipc", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", ".."]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_wheel_holds_exactly_the_sources_and_their_data(wheel):
    found = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    code = {path for path in found if path.startswith("skipc/")}
    sources = {
        f"skipc/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    profiles = {f"skipc/profiles/{path.name}" for path in (ROOT / "profiles").glob("*.toml")}
    scenarios = {
        f"skipc/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "tools/simulate/scenarios").glob("*.toml")
    }
    assert code == sources | profiles | scenarios | DATA
    assert "skipc/profiles/cpu.toml" in profiles
    about = "skipc-0.1.0.dist-info"
    assert found - code == {
        f"{about}/{name}"
        for name in (
            *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"),
            "licenses/LICENSE",
        )
    }
    assert (
        (wheel / about / "licenses/LICENSE").read_text().lstrip().startswith("Apache License")
    )


def test_wheel_describes_itself(wheel):
    about = wheel / "skipc-0.1.0.dist-info"
    metadata = Parser().parsestr((about / "METADATA").read_text(encoding="utf-8"))
    assert metadata["Name"] == "skipc"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras >= {"compiler", "finish", "cpu", "tensorrt", "pycuda"}
    needed = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    assert {text.split(">")[0] for text in needed} == {*BASE, "tomli"}
    assert "skipc = skipc.tools.cli:main" in (about / "entry_points.txt").read_text()


def test_packages_listed_are_the_folders_with_code():
    listed = _pyproject()["tool"]["setuptools"]["packages"]
    folders = {"skipc"} | {
        "skipc." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    assert listed == sorted(folders)
    missing = [
        name
        for name in folders - {"skipc"}
        if not (ROOT.joinpath(*name.split(".")[1:]) / "__init__.py").is_file()
    ]
    assert missing == []


def _isolated(wheel, *arguments):
    import numpy

    site = Path(numpy.__file__).parents[1]
    command = [sys.executable, "-I", "-W", "error", "-c", ISOLATED, str(wheel), str(site)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=wheel,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_base_install_imports_the_runtime_and_the_command_line(wheel):
    done = _isolated(wheel)
    assert (done.returncode, done.stderr) == (0, "")
    done = _isolated(wheel, "--help")
    assert done.returncode == 0, done.stderr
    assert "\n  build " in done.stdout
    assert _isolated(wheel, "--version").stdout == "skipc, version 0.1.0\n"


def test_the_package_tells_its_version_without_importing_its_parts():
    code = "import sys, skipc; print(skipc.__version__, 'skipc.runtime' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{importlib.metadata.version('skipc')} False\n"


def test_base_install_shows_a_bundle_and_runs_the_null_target(wheel, tmp_path):
    import numpy as np

    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path)
    done = _isolated(wheel, "show", path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "target cpu" in done.stdout
    np.save(tmp_path / "in.npy", np.zeros((1, 3, 4, 4), np.float32))
    done = _isolated(wheel, "run", path, tmp_path / "in.npy", "--target", "null")
    assert done.returncode == 0, done.stderr
    done = _isolated(wheel, "targets")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("units", "ckpt.pt"), "compiler"),
        (("build", "ckpt.pt", "--front", "front.json", "--target", "cpu"), "compiler"),
        (("finish", "toy.skipc"), "finish"),
    ],
)
def test_base_install_names_the_extra_that_is_missing(wheel, tmp_path, arguments, extra):
    write_bundle(tmp_path / "toy.skipc")
    done = _isolated(wheel, *(tmp_path / word if "." in word else word for word in arguments))
    assert done.returncode == 2, done.stderr
    assert f"pip install '.[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr

"""Executes a page's fenced blocks, in order, in one folder."""

from __future__ import annotations

import hashlib
import io
import re
import runpy
import shlex
import shutil
import signal
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from skipc.compiler.configurations import configurations_from_front
from skipc.compiler.front import read_front
from skipc.compiler.tolerate.error_model import read_errors
from skipc.compiler.tolerate.partitions import read_partitions
from skipc.profiles import load_profile
from skipc.runtime.call.trace import read_trace
from skipc.tools.cli import cli
from skipc.tools.project import read_project
from skipc.tools.simulate.scenario import read_scenario
from skipc.tools.trtbench.report import read_report
from tests.command_line import Ended, skipc, trtbench

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from tests.tools.docs.fences import Fence

ROOT = Path(__file__).parents[3]

SHOWN = {"text"}
"""Languages of blocks that are for reading only."""

NOT_RUN = {
    "sudo apt install python3-venv": "changes the system",
    "python3 -m venv --system-site-packages ~/skipc-env": "writes to the user's home",
    ". ~/skipc-env/bin/activate": "is of the shell",
    "python3 -m venv gpu-env": "takes a second, for the next one, which is not run",
    "gpu-env/bin/pip install '.[cuda]'": "downloads two gigabytes",
    "pip uninstall --yes onnxruntime": "changes the environment of the tests",
    "make gpu": "needs a GPU; test_bench_gpu runs it without one",
    "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj": "changes the system",
    'python3 -c "import tensorrt; print(tensorrt.__version__)"': "needs a Jetson's TensorRT",
    "skipc build ckpt.pt --front front.json --target jetson-orin --precision fp16"
    " --out orin.skipc --on me@orin --on-command skipc-env/bin/skipc": (
        "needs a Jetson behind ssh: the doubles of its GPU are in this process alone;"
        " remote.md runs --on against an ssh server"
    ),
}
"""Commands that no test can run, and why. Those of skipc are parsed nonetheless."""


@dataclass
class Products:
    """What slow commands made, so that pages which begin alike run these once.

    Attributes:
        folder: Where it is kept.
        made: By the command and all that lay in its folder: how it ended, and a copy of the
            folder then.
    """

    folder: Path
    made: dict[str, tuple[Ended, Path]] = field(default_factory=dict)

    def made_by(self, program: Callable[[list[str]], Ended], arguments: list[str]) -> Ended:
        """Returns how a command ends here, and leaves here what it makes."""
        here = Path.cwd()
        found = hashlib.sha256(repr(arguments).encode())
        for path in sorted(here.rglob("*")):
            found.update(path.relative_to(here).as_posix().encode())
            found.update(path.read_bytes() if path.is_file() else b"")
        key = found.hexdigest()
        if key not in self.made:
            ended, copy = program(arguments), self.folder / key
            shutil.copytree(here, copy)
            self.made[key] = ended, copy
        ended, copy = self.made[key]
        shutil.copytree(copy, here, dirs_exist_ok=True)
        return ended


@dataclass
class PageRun:
    """A page being executed.

    Attributes:
        patch: Undone after the page.
        products: Shared with the pages before.
        exact: Whether shown lines must be printed as they are, numbers aside; else each
            longer word that is shown must be printed.
        varying: Words that another machine's measurements may make print.
        also: Words put behind a command that begins with the key, to save time.
        patient: What a program's text says of time, and what is written instead, so that a
            busy machine prints the same.
        instead: By a command's first two words, what runs it instead of ``_PROGRAMS``.
        rewrite: Changes a command's words: where a double has another address.
    """

    patch: pytest.MonkeyPatch
    products: Products
    exact: bool = False
    varying: frozenset[str] = frozenset()
    also: dict[str, tuple[str, ...]] = field(default_factory=dict)
    patient: dict[str, str] = field(default_factory=dict)
    instead: dict[tuple[str, ...], Callable[[list[str]], Ended]] = field(default_factory=dict)
    rewrite: Callable[[list[str]], list[str]] = list
    toml: str = ""

    def execute(self, fence: Fence) -> None:
        """Runs or validates a block; one that is for reading only holds no command."""
        if fence.language in SHOWN:
            found = re.findall(rf"^(?:\$|{'|'.join(_PROGRAMS)}) .*", fence.text, re.MULTILINE)
            assert found == [], f"{fence.where}: a command in {fence.language!r} is not run"
            return
        assert fence.language in _HANDLERS, (
            f"{fence.where}: a block in {fence.language!r} is neither run nor in SHOWN"
        )
        _HANDLERS[fence.language](self, fence)


def _console(page: PageRun, fence: Fence) -> None:
    first, *parts = re.split(r"^\$ ", fence.text, flags=re.MULTILINE)
    assert first == "", f"{fence.where}: begins with no command"
    assert parts, f"{fence.where}: holds no command"
    for part in parts:
        lines = part.splitlines()
        command = lines.pop(0)
        while command.endswith("\\"):
            command = f"{command[:-1].strip()} {lines.pop(0).strip()}"
        _command(page, command, lines, fence.where)


def _command(page: PageRun, command: str, shown: list[str], where: str) -> None:
    words = shlex.split(command, comments=True)
    if command in NOT_RUN:
        if words[0] == "skipc":
            _parse(words[1:])
        return
    assert words[0] in _PROGRAMS, f"{where}: {command!r} is neither run nor in NOT_RUN"
    more = [word for key in page.also if command.startswith(key) for word in page.also[key]]
    program = page.instead.get(tuple(words[:2]), _PROGRAMS[words[0]])
    arguments = page.rewrite([*words[1:], *more])
    if tuple(words[:2]) in _SHARED:
        ended = page.products.made_by(program, arguments)
    else:
        ended = program(arguments)
    # A comparison of two measurements may find one slower.
    allowed = (0, 1) if "--compare" in words else (0,)
    assert ended.code in allowed, f"{where}: {command}\n{ended.err}"
    _compare(page, shown, ended, f"{where}: {command}")


def _compare(page: PageRun, shown: list[str], ended: Ended, where: str) -> None:
    if page.exact:
        printed = {_line(line) for line in ended.out.splitlines()}
        missing = [line for line in shown if _line(line) not in printed]
    else:
        known = _words(ended.out) | page.varying
        missing = sorted(_words("\n".join(shown)) - known)
    assert missing == [], f"{where} printed\n{ended.out}"


def _line(line: str) -> str:
    return re.sub(r"[\d.]+ .?B", "SIZE", line).rstrip()


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", text))


def _pip(words: Sequence[str]) -> Ended:
    """Looks at what is to be installed: extras that the project has, valid requirements."""
    assert words[0] == "install", words
    known = extras()
    for word in words[1:]:
        if word.startswith("."):
            for extra in word.removeprefix(".").strip("[]").split(","):
                assert not extra or extra in known, f"pip install: no extra {extra!r}"
        elif not word.startswith(("-", "https://")):
            Requirement(word)
    return Ended(0, "", "")


def _make(words: Sequence[str]) -> Ended:
    """Looks for the target: what it does is tested elsewhere."""
    (target,) = words
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target!r}"
    return Ended(0, "", "")


def extras() -> list[str]:
    """Returns the names of the project's extras."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["project"]["optional-dependencies"])


def _script(words: Sequence[str]) -> Ended:
    printed = io.StringIO()
    with redirect_stdout(printed):
        _run(words[0])
    return Ended(0, printed.getvalue(), "")


def _run(program: str) -> None:
    """Runs a program in this process; the handlers of signals that it sets go with it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        runpy.run_path(program, run_name="__main__")
    finally:
        signal.signal(signal.SIGTERM, before)


_SHARED = {("skipc", "train"), ("skipc", "select")}

_PROGRAMS: dict[str, Callable[[list[str]], Ended]] = {
    "skipc": lambda words: skipc(*words),
    "trtbench": lambda words: trtbench(*words),
    "pip": _pip,
    "make": _make,
    "python": _script,
}


def _parse(words: list[str]) -> None:
    """Asserts that the command line takes the words, without running them."""
    with cli.make_context("skipc", list(words)) as context:
        name, command, rest = cli.resolve_command(context, list(words))
        assert command is not None
        command.make_context(name, rest, parent=context)


def _python(page: PageRun, fence: Fence) -> None:
    """Runs a program; one with a title can be imported afterwards."""
    name = fence.title or "program.py"
    text = fence.text
    for said, instead in page.patient.items():
        text = text.replace(said, instead)
    Path(name).write_text(text, encoding="utf-8")
    page.patch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    _run(name)


def _toml(page: PageRun, fence: Fence) -> None:
    """Reads a document; a block without a format goes on with the one before."""
    continued = "format" not in tomllib.loads(fence.text)
    page.toml = f"{page.toml}\n{fence.text}" if continued else fence.text
    document = tomllib.loads(page.toml)
    path = Path(fence.title or f"{document['name']}.toml")
    path.write_text(page.toml, encoding="utf-8")
    _reader(str(document["format"]), fence)(path)


def _json(page: PageRun, fence: Fence) -> None:
    found = re.match(r'\{\s*"format": "(skipc\.(\w+)/\d+)"', fence.text)
    assert found, f"{fence.where}: JSON that does not begin with its format"
    path = Path(fence.title or f"unnamed-{found[2]}.json")
    path.write_text(fence.text, encoding="utf-8")
    _reader(found[1], fence)(path)


def _reader(kind: str, fence: Fence) -> Callable[[Path], object]:
    assert kind in _READERS, f"{fence.where}: no reader of {kind!r} in _READERS"
    return _READERS[kind]


def _front(path: Path) -> None:
    """Reads a front; where there is a network, it must fit."""
    from skipc.compiler.family import open_family
    from skipc.compiler.gates import read_gates
    from skipc.compiler.heads import read_heads
    from skipc.compiler.read import ModelOptions
    from skipc.compiler.read.cached import open_checkpoint
    from skipc.compiler.read.export_cache import ExportCache, default_folder

    front = read_front(path)
    if Path("ckpt.pt").exists():
        cache = ExportCache(default_folder(), lambda text: None)
        options = ModelOptions()
        supernet = open_checkpoint(Path("ckpt.pt"), options, cache, lambda text: None)
        checkpoint = Path("ckpt.pt")
        heads, gates = read_heads(checkpoint), read_gates(checkpoint)
        family = open_family(supernet, heads=heads, gates=gates)
        configurations_from_front(front, {"": family.offers}, str(path))


def _trace(path: Path) -> None:
    """Reads a trace: a page breaks its lines, in the file each is one."""
    path.write_text(re.sub(r"\n +", " ", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert read_trace(path).calls


_READERS: dict[str, Callable[[Path], object]] = {
    "skipc.bit-errors/1": read_errors,
    "skipc.front/1": _front,
    "skipc.front/2": _front,
    "skipc.partitions/1": read_partitions,
    "skipc.profile/1": lambda path: load_profile(str(path)),
    "skipc.project/1": lambda path: read_project(path.parent),
    "skipc.scenario/1": read_scenario,
    "skipc.trace/2": _trace,
    "skipc.trtbench/2": read_report,
}

_HANDLERS: dict[str, Callable[[PageRun, Fence], None]] = {
    "console": _console,
    "json": _json,
    "python": _python,
    "toml": _toml,
}

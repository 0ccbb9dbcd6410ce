"""Where each page is executed: the files that it starts from, the devices that it needs."""

from __future__ import annotations

import importlib
import platform
import signal
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from skipc.runtime import modes
from skipc.runtime.backends.onnxruntime import devices
from tests.command_line import Ended, hide_tests, started
from tests.doubles.gpu import fake_gpu
from tests.mode_trees import contents, orin_nano
from tests.ssh_server import running_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    import pytest

    from tests.tools.docs.running import PageRun

    Prepare = Callable[["PageRun", pytest.TempPathFactory], AbstractContextManager[None]]

NETWORK = ("ckpt.pt", "front.json")
BUNDLE = ("ckpt.skipc",)


@dataclass(frozen=True)
class Setting:
    """Where a page is executed.

    Attributes:
        files: What lies in the folder from the start, from the tests' small network.
        at: What begins at a heading and lasts to the page's end; "" is the page's start.
        exact: As in ``PageRun``.
        varying: As in ``PageRun``.
        also: As in ``PageRun``.
        patient: As in ``PageRun``.
        printed: Lines that the page's programs print, all of them; None looks at none.
    """

    files: tuple[str, ...] = ()
    at: Mapping[str, Prepare] = field(default_factory=dict)
    exact: bool = False
    varying: frozenset[str] = frozenset()
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    patient: Mapping[str, str] = field(default_factory=dict)
    printed: tuple[str, ...] | None = None


@contextmanager
def jetson(page: PageRun, folders: pytest.TempPathFactory) -> Iterator[None]:
    """The commands run on a Jetson from here on: its libraries are doubles."""
    np.save("image.npy", np.zeros((1, 1, 8, 8), np.float32))
    page.patch.setattr(platform, "machine", lambda: "aarch64")
    with fake_gpu(page.patch) as gpu:
        yield
        gpu.check()


@contextmanager
def cpu_for_gpu(page: PageRun, folders: pytest.TempPathFactory) -> Iterator[None]:
    """What the page does on a GPU is done on the CPU, by the same calls."""
    page.patch.setattr(devices, "cuda_device", devices.cpu_device)
    yield


@contextmanager
def device_behind_ssh(page: PageRun, folders: pytest.TempPathFactory) -> Iterator[None]:
    """Every ``--on`` means an ssh server on this machine."""
    with running_server(folders.mktemp("device")) as server:
        there: Path = server.folder / "home" / "venv" / "bin"
        there.mkdir(parents=True)
        (there / "skipc").symlink_to(server.folder / "bin" / "skipc")

        def rewritten(words: list[str]) -> list[str]:
            if "--on" not in words:
                return words
            at = words.index("--on")
            return [*words[:at], *server.on, *words[at + 2 :]]

        page.rewrite = rewritten
        yield
        assert server.left() == []


@contextmanager
def own_code_alone(page: PageRun, folders: pytest.TempPathFactory) -> Iterator[None]:
    """What is imported beside the page's code are no tests."""
    hide_tests(page.patch)
    yield


@contextmanager
def board_of_modes(page: PageRun, folders: pytest.TempPathFactory) -> Iterator[None]:
    """A board that is a folder stands for this machine's power modes."""
    board = orin_nano(page.patch, folders.mktemp("modes"))
    before = contents(board)
    guard = folders.mktemp("state") / "skipc"
    for name in ("open_modes", "restore_modes"):
        here = partial(getattr(modes, name), root=board, guard=guard)
        page.patch.setattr(modes, name, here)
    page.patch.setattr(modes, "offered", partial(modes.offered, board))
    page.patch.setattr("skipc.tools.trtbench.modes.open_modes", modes.open_modes)
    page.patch.setattr("skipc.runtime.call.mode_changer.open_modes", modes.open_modes)
    yield
    assert contents(board) == before


@contextmanager
def served(page: PageRun, folders: pytest.TempPathFactory) -> Iterator[None]:
    """The server that the page starts runs until its end, and answers all till then."""
    with ExitStack() as stack:

        def serve(words: list[str]) -> Ended:
            process = stack.enter_context(started(*words, folder=Path.cwd()))
            stack.callback(_ends_well, process)
            assert process.stderr is not None
            told = ""
            while not told.startswith("serving"):
                told = process.stderr.readline()
                assert told, "it ended"
            return Ended(0, told, "")

        page.instead["skipc", "serve"] = serve
        yield


def _ends_well(server: subprocess.Popen[str]) -> None:
    server.send_signal(signal.SIGTERM)
    assert server.wait(120) == 0
    assert server.stderr is not None
    assert server.stderr.read() == "stopped; all requests were answered.\n"


OWN_NETWORK = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return x + torch.relu(self.conv(x))


class MyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=4)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))
"""


@contextmanager
def own_network(page: PageRun, folders: pytest.TempPathFactory) -> Iterator[None]:
    """A class, its weights and a folder of photos, as a user has them."""
    hide_tests(page.patch)
    Path("mynet.py").write_text(OWN_NETWORK, encoding="utf-8")
    torch.save(importlib.import_module("mynet").MyNet().state_dict(), "weights.pt")
    random = np.random.default_rng(0)
    for number in range(60):
        folder = Path("photos") / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    yield


ONE_EPOCH = {"skipc train": ("--epochs", "1")}
# Every unit that a page names, and few others: what an export takes is by their number.
FEW_UNITS = {"skipc train": ("--epochs", "1", "--network-arg", "depths=[1,3,1]")}
# The demo's test selects as much as the pages say.
BRIEFLY = {**ONE_EPOCH, "skipc select": ("--evaluations", "6", "--samples", "60")}
MEASURED_BRIEFLY = {"trtbench ckpt.skipc --duration": ("--duration", "0.1")}
# A briefly trained network may have one configuration only, and a tight budget may be met.
BRIEFLY_TRAINED = frozenset(
    {
        "skip",
        "that",
        "best",
        "configuration",
        "budget",
        "nothing",
        "fits",
        "predicted",
        "fastest",
    }
)

ON_SERVERS = {"serving.md"}
"""Pages that start Ray."""

SETTINGS: dict[str, Setting] = {
    "README.md": Setting(
        at={"Your own network in five lines": own_network},
        also=BRIEFLY,
        varying=BRIEFLY_TRAINED,
    ),
    # The network of the tests was trained by nobody: there is little that errors could cost.
    "bit-errors.md": Setting(
        BUNDLE,
        also={
            **FEW_UNITS,
            "skipc tolerate": (
                *("--samples", "24", "--max-drop", "5", "--sure", "0.5"),
                *("--configuration", "fast"),
            ),
        },
    ),
    "budgets.md": Setting(BUNDLE, exact=True),
    "architecture.md": Setting(),
    "bundle-format.md": Setting(),
    "cascades.md": Setting(also={**ONE_EPOCH, "skipc select": ("--evaluations", "4")}),
    "changelog.md": Setting(),
    "command-line.md": Setting(),
    "comparison.md": Setting(),
    "concepts.md": Setting(),
    "cuda.md": Setting(NETWORK, at={"Build and run": cpu_for_gpu}),
    "dense.md": Setting(at={"": own_code_alone}),
    "dimensions.md": Setting(at={"": own_code_alone}),
    "embed-asyncio.md": Setting(BUNDLE),
    "embed-loop.md": Setting(
        BUNDLE,
        exact=True,
        patient={"PERIOD_S = 1 / 30": "PERIOD_S = 60", "latency_ms=20": "latency_ms=60_000"},
    ),
    "engines.md": Setting(NETWORK),
    # Which places are chosen on random weights is chance.
    "exits.md": Setting(
        NETWORK,
        exact=True,
        also={**FEW_UNITS, "skipc heads": ("--at", "stages.0.1,stages.1.0")},
    ),
    "faults.md": Setting(
        printed=(
            "[1.]",
            "{'full': 'out of memory.'}",
            "[('full', 'out of memory.'), ('fast', '')]",
            "full",
        )
    ),
    "formats.md": Setting(),
    "getting-started.md": Setting(also=BRIEFLY, varying=BRIEFLY_TRAINED),
    "guarantees.md": Setting(("ckpt.pt",)),
    "hardware.md": Setting(),
    "index.md": Setting(BUNDLE),
    "install.md": Setting(),
    "jetson.md": Setting(NETWORK, at={"2. On the Jetson: install, once": jetson}, exact=True),
    "limits.md": Setting(),
    "meters.md": Setting(exact=True),
    "modes.md": Setting(
        BUNDLE, {"": board_of_modes}, also={"trtbench": ("--duration", "0.1")}
    ),
    "norms.md": Setting(),
    "precision.md": Setting(NETWORK),
    "profiles.md": Setting(NETWORK),
    "prologue.md": Setting(NETWORK, printed=("(1, 10)", "(1, 10) False")),
    "python-compiler.md": Setting((*NETWORK, *BUNDLE)),
    "python-runtime.md": Setting(),
    "report.md": Setting(BUNDLE, exact=True, also=MEASURED_BRIEFLY),
    "reproduction.md": Setting(),
    "resolution.md": Setting(also=ONE_EPOCH),
    "results.md": Setting(),
    "routers.md": Setting(NETWORK, also={"skipc router": ("--samples", "200")}),
    "remote.md": Setting(NETWORK, at={"": device_behind_ssh}),
    "select.md": Setting(NETWORK, also={**FEW_UNITS, "skipc select": ("--evaluations", "6")}),
    "serving.md": Setting(NETWORK, at={"": served}),
    "traces.md": Setting(BUNDLE, exact=True),
    # The numbers, and what is said of them, are another machine's.
    "trtbench.md": Setting(
        (*BUNDLE, "ckpt.pt"),
        varying=frozenset({"faster", "slower", "difference"}),
        also=MEASURED_BRIEFLY,
    ),
    "width.md": Setting(NETWORK),
    "gates.md": Setting(NETWORK, also={"skipc gates": ("--samples", "60")} | ONE_EPOCH),
    "your-data.md": Setting(NETWORK, also={"skipc select": ("--evaluations", "6")}),
    "your-model.md": Setting(at={"": own_code_alone}),
    "your-target.md": Setting(NETWORK),
}

"""What the examples share: where they write, how they run a command, colours of pictures."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import matplotlib as mpl

from skipc.compiler.select.data import NAMED
from skipc.runtime.errors import SkipcError
from skipc.tools.cli import cli

if TYPE_CHECKING:
    from skipc.compiler.recipes.digits_data import FixedData

mpl.use("agg")

COLOURS = (
    "#3b6ea5",
    "#d1495b",
    "#66a182",
    "#edae49",
    "#8d5a97",
    "#5b8e9b",
    "#a1663b",
    "#777777",
)


@dataclass(frozen=True)
class Run:
    """How an example is run.

    Attributes:
        tiny: Whether it only shows that all of it works: little data, few steps.
    """

    tiny: bool

    def size(self, usual: int, tiny: int) -> int:
        """Returns how much of something there is to be."""
        return tiny if self.tiny else usual

    @property
    def data(self) -> str:
        """What the commands call the pictures: digits among pieces of others, or digits."""
        return "digits" if self.tiny else "clutter"

    @property
    def pictures(self) -> FixedData:
        """The pictures, (N, 1, 32, 32), tiny ones (N, 1, 8, 8), in parts."""
        return NAMED[self.data]()


@contextlib.contextmanager
def begun(name: str, arguments: list[str] | None = None) -> Iterator[Run]:
    """Goes into the example's folder while it runs; a mistake ends it with its message."""
    parser = argparse.ArgumentParser(prog=f"{name}.py")
    parser.add_argument("--out", type=Path, default=Path("examples-out", name))
    parser.add_argument("--tiny", action="store_true", help="in seconds, to see that it runs")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(given.out)
    try:
        yield Run(given.tiny)
    except (SkipcError, click.ClickException) as error:
        sys.exit(f"{name}.py: {error}")
    finally:
        os.chdir(before)


def skipc(*words: object) -> None:
    """Runs a command of skipc in this process, as a shell would."""
    texts = [str(word) for word in words]
    print(f"$ skipc {shlex.join(texts)}", flush=True)
    if status := cli.main(texts, prog_name="skipc", standalone_mode=False):
        sys.exit(status)


def digits_family(run: Run, *build: str) -> list[str]:
    """Trains a ResNet on the digits, builds three depths of it; returns what they are called.

    ``build`` are further words for ``skipc build``; the bundle is ``ckpt.skipc``.
    """
    sizes = ("widths=[4]", "depths=[2]") if run.tiny else ("widths=[64,128]", "depths=[4,4]")
    words = [word for text in (*sizes, "drop=0.3") for word in ("--network-arg", text)]
    skipc("train", "stochastic-depth", *words, "--epochs", run.size(6, 1), "--out", ".")
    skips = {"full": [], "half": ["stages.0.1"], "least": ["stages.0"]}
    if not run.tiny:
        last = ["stages.1.2", "stages.1.3"]
        skips["half"] = ["stages.0.2", "stages.0.3", *last]
        skips["least"] = ["stages.0", "stages.1.1", *last]
    entries = [{"name": name, "skip": skip} for name, skip in skips.items()]
    document = {"format": "skipc.front/2", "configurations": entries}
    Path("front.json").write_text(json.dumps(document), encoding="utf-8")
    # The norms' statistics are another matter with half of the network: see docs/norms.md.
    norms = () if run.tiny else ("--norm", "scalar", "--reestimate", "digits")
    where = ("--front", "front.json", "--target", "cpu", "--overwrite")
    skipc("build", "ckpt.pt", *where, *norms, *build)
    return [*skips]

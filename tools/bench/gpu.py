"""``make gpu``: what only a GPU can show, for the first person who has one.

Each check is a command in a process of its own with a time limit, so that one that hangs or
crashes costs its own row. Nothing is left out silently: what was not run says why.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require
from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.onnxruntime import devices
from skipc.tools.bench.harness import Bar, by_turns_ms, ratio, skipc
from skipc.tools.bench.networks import RESNET50, prepare
from skipc.tools.cli import run_and_exit

LIMIT_S = 480.0
"""All checks together."""
_ROUNDS = 60
_SHOWN_LINES = 30
_SKIPC = (sys.executable, "-m", "skipc.tools.cli")
_BENCH = (sys.executable, "-m", "skipc.tools.trtbench")


@dataclass(frozen=True, slots=True)
class Check:
    """A command that shows something; ``needs`` are modules without which it is not run."""

    what: str
    words: tuple[str, ...]
    limit_s: float
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a check: ``passed``, ``failed``, or why it was not run."""

    what: str
    verdict: str
    took_s: float
    said: str


def checks(folder: Path) -> list[Check]:
    """Returns all checks, of the bundles that ``bundles`` has written into a folder."""
    six, half = str(folder / "six.skipc"), str(folder / "half.skipc")
    found = [
        Check("what is here", (*_SKIPC, "doctor"), 60),
        Check("cuda: engines in fp32", (*_SKIPC, "finish", six, "--target", "cuda"), 90),
        Check("cuda: engines in fp16", (*_SKIPC, "finish", half, "--target", "cuda"), 90),
        Check("cuda: `skipc check`", (*_SKIPC, "check", six, "--target", "cuda"), 60),
        Check("cuda: memory, latency, switches", (*_own("figures"), six), 90),
        Check(
            "cuda: energy by NVML",
            (*_BENCH, six, "--target", "cuda", "--meter", "nvml", "--duration", "1"),
            60,
            ("pynvml",),
        ),
    ]
    for target, module in (("tensorrt", "tensorrt"), ("rtx", "tensorrt_rtx_bindings")):
        for words in (
            (*_SKIPC, "finish", half, "--target", target),
            (*_SKIPC, "check", half, "--target", target),
            (*_BENCH, half, "--target", target, "--duration", "1"),
        ):
            name = "trtbench" if "finish" not in words and "check" not in words else words[3]
            found.append(Check(f"{target}: `{name}`", words, 150, (module,)))
    return found


def run_all(asked: list[Check], limit_s: float, tell: Callable[[str], None]) -> list[Seen]:
    """Runs checks one after the other, as long as there is time."""
    found, end_s = [], time.monotonic() + limit_s
    for check in asked:
        tell(f"{check.what} ...")
        missing = [name for name in check.needs if importlib.util.find_spec(name) is None]
        left_s = min(check.limit_s, end_s - time.monotonic())
        if missing:
            found.append(Seen(check.what, f"not run: no {missing[0]} here", 0.0, ""))
        elif left_s <= 0:
            found.append(Seen(check.what, "not run: no time left", 0.0, ""))
        else:
            found.append(_run(check, left_s))
    return found


def _run(check: Check, limit_s: float) -> Seen:
    start_s = time.monotonic()
    try:
        done = subprocess.run(
            check.words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
        )
        verdict = "passed" if done.returncode == 0 else f"failed ({done.returncode})"
        said = done.stdout
    except subprocess.TimeoutExpired as late:
        verdict = f"failed: not over after {limit_s:.0f} s"
        said = (late.stdout or b"").decode(errors="replace")
    return Seen(check.what, verdict, time.monotonic() - start_s, said)


def page(seen: list[Seen], machine: str) -> str:
    """Returns what came of the checks as Markdown."""
    lines = ["# What a GPU showed", "", "Written by `make gpu`.", "", machine, ""]
    lines += ["| check | | seconds |", "|---|---|---:|"]
    lines += [f"| {each.what} | {each.verdict} | {each.took_s:.1f} |" for each in seen]
    for each in seen:
        if each.said.strip():
            told = each.said.strip().splitlines()[-_SHOWN_LINES:]
            lines += ["", f"## {each.what}", "", "```text", *told, "```"]
    return "\n".join([*lines, ""])


def figures(bundle: Bundle) -> list[Bar]:
    """Returns the bars of target ``cuda`` on the device at hand; its engines are built.

    Device memory is what the device lost to loading and to a call; a plain session is ONNX
    Runtime's of the portable graph with the same provider.
    """
    case = bundle.golden_inputs()[0]
    names = [entry.route[0].graph for entry in bundle.manifest.configurations]
    full, fast = names[0], names[-1]
    with (
        closing(devices.cuda_device()) as device,
        closing(open_backend(bundle, bundle.engine_set("cuda"))) as backend,
    ):
        before_bytes = device.used_bytes()
        engines, taken_bytes = {}, []
        for name in names:
            engines[name] = backend.load(name)
            for _ in range(2):  # the second one in fixed buffers
                engines[name].run(case)
            taken_bytes.append(device.used_bytes() - before_bytes)
        plain = _plain(bundle, full, device)
        calls = {name: partial(engines[name].run, case) for name in (full, fast)}
        over_plain = by_turns_ms(calls[full], partial(plain, case), _ROUNDS)
        switched: list[float] = []
        stayed: list[float] = []
        for _ in range(_ROUNDS):
            for before, into in ((fast, switched), (full, stayed)):
                calls[before]()
                into += [each for each, _ in by_turns_ms(calls[full], lambda: None, 1)]
        sharing = backend.sharing()
    of_six = taken_bytes[-1] / max(taken_bytes[0], 1)
    note = f"{taken_bytes[0]} and {taken_bytes[-1]} bytes; {sharing.weights}"
    ungraphed = float(" without " in sharing.threads)
    pairs = zip(switched, stayed, strict=True)
    return [
        Bar("cuda", f"device memory of {len(names)} over one", of_six, 1.1, note=note),
        Bar("cuda", "latency over a plain session", ratio(over_plain), 1.01),
        Bar("cuda", "a call after a switch over one without", ratio(pairs), 1.05),
        Bar("cuda", "some run without a CUDA graph", ungraphed, 0, "", sharing.threads),
    ]


def _plain(bundle: Bundle, graph: str, device: devices.Device) -> Callable[[Any], object]:
    ort = require("onnxruntime", "cuda")
    path = str(bundle.graph_file(bundle.manifest.graph(graph)))
    session = ort.InferenceSession(path, providers=device.providers())
    return partial(session.run, None)


def _own(command: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "skipc.tools.bench.gpu", command)


@click.group()
def main() -> None:
    """What only a GPU can show."""


@main.command("bundles")
@click.argument("folder", type=click.Path(path_type=Path))
def bundles_command(folder: Path) -> None:
    """Writes the portable bundles into FOLDER, where they are not there: with PyTorch."""
    prepare(RESNET50, folder)
    for name, front, precision in (("six", "six", "fp32"), ("half", "one", "fp16")):
        if not (folder / f"{name}.skipc").exists():
            click.echo(f"building {name}.skipc ...", err=True)
            skipc(
                *("build", folder / "ckpt.pt", "--front", folder / f"{front}.json"),
                *("--target", "cuda", "--precision", precision, "--input", "1x3x224x224"),
                *("--model", f"transformers:{RESNET50.factory}"),
                *("--out", folder / f"{name}.skipc"),
            )


@main.command("figures")
@click.argument("bundle", type=click.Path(path_type=Path))
def figures_command(bundle: Path) -> None:
    """Measures the bars of target cuda on BUNDLE; exits with 1 where one is missed."""
    bars = figures(Bundle.open(bundle))
    for bar in bars:
        click.echo(" | ".join(bar.cells))
    sys.exit(0 if all(bar.met for bar in bars) else 1)


@main.command("run")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def run_command(folder: Path, out: Path) -> None:
    """Runs every check on the bundles in FOLDER, and writes OUT/results.md."""
    seen = run_all(checks(folder), LIMIT_S, partial(click.echo, err=True))
    host = json.dumps(dict(devices.cuda_device().host))
    machine = f"{platform.system()}, Python {platform.python_version()}, {host}"
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "results.md", page(seen, machine).encode())
    for each in seen:
        click.echo(f"{each.what}: {each.verdict}")
    click.echo(f"written to {out / 'results.md'}")
    sys.exit(1 if any(each.verdict.startswith("failed") for each in seen) else 0)


if __name__ == "__main__":
    run_and_exit(main, "python -m skipc.tools.bench.gpu")

"""Memory errors: what correction and training buy, fine over coarse, the bound, the speed.

The demo's network on clutter, trained without errors and with them, in float32 and in int8.
The bound is certified 200 times for a small network on digits, with new samples and new
errors, and compared with what is lost by many more.
"""

from __future__ import annotations

import json
import time
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.recipes.digits_data import load_digits
from skipc.compiler.select.samples import Samples
from skipc.compiler.tolerate.analysis import Asked, alike, trials_of
from skipc.compiler.tolerate.error_model import ErrorModel
from skipc.compiler.tolerate.memory import Memory
from skipc.compiler.tolerate.trials import PATTERNS, Trials, largest_rate, last_certified
from skipc.runtime.bundle import Bundle
from skipc.tools.bench.harness import Bar, skipc
from skipc.tools.demo.__main__ import DEMO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "bit errors"
_NETWORK = (
    *("--network-arg", "widths=[16,16,96]", "--network-arg", "depths=[0,4,1]"),
    *("--network-arg", "drop=0.1", "--rate", "0.01", "--epochs", "6"),
)
_STORED = ("float32", "int8")
_TRAINED_WITH = ("--bit-errors", "int8:0.01")
_SAMPLES = 300
_PARTITIONS = ((1e-6, 0.9), (1e-5, 0.85), (1e-4, 0.78), (1e-3, 0.7), (1e-2, 0.62))
"""Rates, and energies over normal memory, of a memory that we made up."""
_REPETITIONS, _CALIBRATION, _SHARE, _CONFIDENCE = 200, 100, 0.05, 0.9
_TRUE_PATTERNS = 64
_LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)


class Stood(NamedTuple):
    """What a bundle of one configuration stands.

    Attributes:
        rate: With correction.
        uncorrected: Without.
        accuracy: With no errors.
        fine: Energy with each tensor in its own partition, over normal memory.
        coarse: ... with all in one.
    """

    rate: float
    uncorrected: float
    accuracy: float
    fine: float
    coarse: float


def bars(place: Path) -> list[Bar]:
    """Trains, builds and analyses; returns the bars."""
    folder = place / "bit-errors"
    folder.mkdir(parents=True, exist_ok=True)
    return [*clutter(folder), *bound(folder), *speed(folder)]


def clutter(folder: Path) -> list[Bar]:
    """Returns what correction and training buy, and what each tensor's own memory does."""
    found = []
    for stored in _STORED:
        plain = stood(folder, "plain", stored)
        trained = stood(folder, "hardened", stored, *_TRAINED_WITH)
        told = f"{plain.uncorrected:.2g} without"
        for what, each in (("correction", plain), ("correction and training", trained)):
            ratio = each.rate / plain.uncorrected
            note = f"{told}, {each.rate:.2g}; {100 * each.accuracy:.1f} % right"
            least = 5.0 if each is trained else None
            what = f"{stored}: rate with {what} over without"
            found.append(Bar(NAME, what, ratio, None, note=note, least=least))
        saved = (1 - trained.fine) / (1 - trained.coarse) if trained.coarse < 1 else 0.0
        note = (
            f"energy {trained.fine:.3f} fine, {trained.coarse:.3f} coarse, of a made-up memory"
        )
        what = f"{stored}: energy saved by fine over coarse mapping"
        found.append(Bar(NAME, what, saved, None, note=note, least=1.2))
    return found


def stood(folder: Path, name: str, stored: str, *options: str) -> Stood:
    """Returns what the demo's network stands when it is trained so and stored so."""
    out = folder / name
    if not (out / "ckpt.pt").exists():
        told = ("--data", DEMO.data, *_NETWORK, *options, "--out", out)
        skipc("train", "stochastic-depth", *told)
    front, path = out / f"{stored}.json", out / f"{stored}.skipc"
    if not path.exists():
        choices = {"precision": "int8"} if stored == "int8" else {}
        write_front(front, Front((FrontEntry(stored, choices),)))
        calibrated = ("--calibrate", DEMO.data) if choices else ()
        words = ("--front", front, "--target", "cpu", "--out", path, *calibrated)
        skipc("build", out / "ckpt.pt", *words)
    tables = [
        f'[[partition]]\nname = "{rate:g}"\nrate = {rate}\nenergy = {energy}\nlatency = 1.0\n'
        for rate, energy in _PARTITIONS
    ]
    partitions = folder / "partitions.toml"
    partitions.write_text('format = "skipc.partitions/1"\n' + "".join(tables))
    asked = ("--data", DEMO.data, "--samples", _SAMPLES, "--max-drop", 1, "--correct")
    words = (*asked, "--partitions", partitions, "--json")
    document = json.loads(skipc("tolerate", path, *words).out)
    (coarse,), fine = document["coarse"], document["fine"]
    (saved,), (alone,) = fine["saved"].values(), fine["coarse_saved"].values()
    accuracy, energies = coarse["reported"]["intact"], (saved["energy"], alone["energy"])
    return Stood(coarse["rate"], coarse["uncorrected"], accuracy, *energies)


def bound(folder: Path) -> list[Bar]:
    """Returns how often a certified bound is broken by what is true."""
    bundle = _digits(folder, "small", "widths=[8,8,16]", "depths=[1,1,1]")
    population = _population()
    memory, trials = _of(bundle, population, threads=1)
    route = trials.route

    def rates(factor: float) -> Mapping[str, float]:
        return alike(trials, memory, factor)

    middle = largest_rate(lambda rate: trials.loses(rates(rate)), _SHARE, memory.bits)
    ladder = [rates(middle * factor) for factor in _LADDER]
    whole = route.part(population)
    rows = np.arange(len(whole))
    truth = [
        np.mean([route.lost(whole, rows, (1, 9, n), each) for n in range(_TRUE_PATTERNS)])
        for each in ladder
    ]
    broken = certified = 0
    for repetition in range(_REPETITIONS):
        drawn = np.random.default_rng(repetition).integers(len(rows), size=_CALIBRATION)
        images = population.inputs["images"][drawn]
        part = route.part(Samples({"images": images}, population.targets[drawn]))
        own = Trials(route, (part, part, part), 1000 + repetition, 1, only_one=False)
        last = last_certified([own], ladder, _SHARE, _CONFIDENCE).last
        certified += last is not None
        broken += int(last is not None and truth[last] > _SHARE)
    allowed = 1 - _CONFIDENCE
    limit = allowed + 3 * sqrt(allowed * (1 - allowed) / _REPETITIONS)
    lost = " / ".join(f"{100 * each:.1f}" for each in truth)
    note = f"{broken} of {_REPETITIONS}; {certified} certified some rate; true {lost} %"
    share = broken / _REPETITIONS
    return [Bar(NAME, "a bound of 5 % broken, sure to 90 %", share, limit, "", note)]


def speed(folder: Path) -> list[Bar]:
    """Returns how many injected configurations are evaluated in a minute, on digits."""
    bundle = _digits(folder, "digits", "drop=0.1")
    memory, trials = _of(bundle, _population(), threads=2)
    rate = largest_rate(lambda r: trials.loses(alike(trials, memory, r)), 0.01, memory.bits)
    start_s = time.perf_counter()
    for seed in range(10):
        trials.loses(alike(trials, memory, rate * (1 + seed / 100)))
    alike_s = (time.perf_counter() - start_s) / (10 * PATTERNS)
    start_s = time.perf_counter()
    for one in memory.weights:
        trials.loses({one.name: 0.01})
    alone_s = (time.perf_counter() - start_s) / (len(memory.weights) * PATTERNS)
    note = f"{len(_population()) // PATTERNS} samples each, two threads"
    what = "injected configurations evaluated per minute"
    return [
        Bar(NAME, f"{what}, all tensors damaged", 60 / alike_s, None, "", note),
        Bar(NAME, f"{what}, one damaged (prefixes shared)", 60 / alone_s, None, "", note),
    ]


def _digits(folder: Path, name: str, *arguments: str) -> Bundle:
    out = folder / name
    if not (out / "ckpt.skipc").exists():
        words = [word for argument in arguments for word in ("--network-arg", argument)]
        skipc("train", "stochastic-depth", "--epochs", 12, *words, "--out", out)
        write_front(out / "front.json", Front((FrontEntry("full"),)))
        front = ("--front", out / "front.json", "--target", "cpu")
        skipc("build", out / "ckpt.pt", *front, "--out", out / "ckpt.skipc")
    return Bundle.open(out / "ckpt.skipc")


def _population() -> Samples:
    """Returns the digits that nothing was trained on."""
    data = load_digits()
    images = np.concatenate([data.selection.images, data.report.images])
    labels = np.concatenate([data.selection.labels, data.report.labels])
    return Samples({"images": images}, labels)


def _of(bundle: Bundle, samples: Samples, threads: int) -> tuple[Memory, Trials]:
    (entry,) = bundle.manifest.configurations
    model = ErrorModel()
    memory = Memory(bundle, [entry], model, correct=True)
    asked = Asked(model, _SHARE, _CONFIDENCE, correct=True)
    made = trials_of(bundle, entry, (samples, samples, samples), asked, memory)
    part = made.route.part(samples)
    return memory, Trials(made.route, (part, part, part), 0, threads, only_one=False)

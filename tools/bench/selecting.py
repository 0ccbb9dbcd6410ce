"""Selection on the digits: how near the search comes, what it costs, what it gains.

Five networks, seeds 0 to 4, trained by ``skipc train stochastic-depth``; medians over them.
"""

from __future__ import annotations

import itertools
import json
import statistics
from typing import TYPE_CHECKING, Any

from skipc.compiler.axes.units import find_units
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.compiler.recipes.digits_data import Part, load_digits
from skipc.compiler.select.batched import batched_graph
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.samples import Samples
from skipc.runtime import Bundle
from skipc.tools.bench.harness import Bar, skipc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes

NAME = "digits ResNet"
SEEDS = range(5)
MANDATORY = ("stages.0.0", "stages.1.0", "stages.2.0")
"""With these kept, nine units are free: 512 configurations."""

MAX_DROP = 0.71
"""The loss of accuracy, in points, that arXiv 2505.17626 gives for its twofold gain."""


def bars(place: Path) -> list[Bar]:
    """Trains, selects and builds; returns the bars of selection."""
    found = [_one(seed, place / f"selecting/digits-{seed}") for seed in SEEDS]

    def median(name: str) -> float:
        return float(statistics.median(one[name] for one in found))

    def listed(name: str, form: str) -> str:
        return " ".join(format(one[name], form) for one in found)

    evaluations = max(one["evaluations"] for one in found)
    return [
        Bar(NAME, "hypervolume of the default search, over the exhaustive front's",
            median("share"), None, least=0.99,
            note=f"{evaluations} evaluations; {listed('share', '.4f')}"),
        Bar(NAME, "unit forwards of the exhaustive search, over one by one",
            median("unit_forwards"), 0.25),
        Bar(NAME, f"latency of the fastest within {MAX_DROP} points, over the full one's",
            median("latency_ratio"), 0.5, note=f"`full`; {listed('latency_ratio', '.2f')}"),
        Bar(NAME, "… norms `scalar`, whose multiplications weigh in so small a network",
            median("scalar_ratio"), None, note=listed("scalar_ratio", ".2f")),
        Bar(NAME, "accuracy that `scalar` loses against `full`, half of the units skipped",
            median("scalar_loss"), 0.5, unit="points", note=listed("scalar_loss", ".2f")),
        Bar(NAME, "weight store of a `scalar` front, over the full configuration's",
            median("store_ratio"), 1.02),
        Bar(NAME, "predicted latency against measured, worst of the front",
            median("prediction_error"), 0.1, note=listed("prediction_error", ".2f")),
    ]  # fmt: skip


def _one(seed: int, folder: Path) -> dict[str, float]:
    """Returns the figures of one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "ckpt.pt"
    if not checkpoint.exists():
        skipc("train", "stochastic-depth", "--seed", seed, "--out", folder)
    near = ("select", checkpoint, "--data", "digits", "--target", "cpu", "--json",
            "--cache", folder / "cache", "--out", folder / "front.json")  # fmt: skip
    kept = [word for name in MANDATORY for word in ("--keep", name)]
    searched = _told(*near, *kept)
    # Once everything is in the cache, the share of the exhaustive optimum is known.
    skipc(*near, *kept, "--search", "exhaustive", "--out", folder / "all.json")
    shared = _told(*near, *kept)
    bundle, scalar_ratio, chosen = _fastest(near, checkpoint, folder, NormMode.SCALAR)
    _, full_ratio, others = _fastest(near, checkpoint, folder, NormMode.FULL)
    tried = (*searched["configurations"], *chosen, *others)
    accuracy = _accuracies(checkpoint)
    half = [bits for bits in accuracy[NormMode.FULL] if sum(bits) in (4, 5)]
    losses = [accuracy[NormMode.FULL][b] - accuracy[NormMode.SCALAR][b] for b in half]
    manifest = bundle.manifest
    full = next(c for c in manifest.configurations if not c.taken("skip"))
    full_bytes = manifest.graphs_of(full)[0].weights_bytes
    return {
        "share": shared["share_of_exhaustive_hypervolume"],
        "evaluations": searched["evaluations"],
        "unit_forwards": _unit_forwards(checkpoint),
        "latency_ratio": full_ratio,
        "scalar_ratio": scalar_ratio,
        "scalar_loss": 100 * statistics.mean(losses),
        "store_ratio": sum(tensor.size_bytes for tensor in manifest.weights) / full_bytes,
        "prediction_error": max(
            abs(one["predicted_ms"] / one["measured_ms"] - 1) for one in tried
        ),
    }


def _fastest(
    near: tuple[object, ...], checkpoint: Path, folder: Path, norm: NormMode
) -> tuple[Bundle, float, list[dict[str, Any]]]:
    """Selects within the drop and builds; returns the bundle and what the fastest gains.

    That is its latency over the full network's, on one thread. Counted are configurations
    that keep the accuracy on the report part.
    """
    folder = folder / norm.value
    folder.mkdir(exist_ok=True)
    front, path = folder / "front.json", folder / "bundle.skipc"
    limits = ("--max-drop", MAX_DROP, "--size", 12, "--norm", norm.value, "--out", front)
    chosen = _told(*near, *limits)["configurations"]
    skipc(
        "build", checkpoint, "--front", front, "--target", "cpu", "--out", path, "--overwrite"
    )
    best = next(one["score"] for one in chosen if one["name"] == "full")
    kept = {one["name"] for one in chosen if 100 * (best - one["score"]) <= MAX_DROP}
    bundle = Bundle.open(path)
    engines = bundle.engine_set("cpu").engines
    p50_ms = {engine.graph: engine.latency[0].p50_ms for engine in engines}
    return bundle, min(p50_ms[name] for name in kept) / p50_ms["full"], chosen


def _told(*words: object) -> Any:
    return json.loads(skipc(*words).out)


def _evaluator(checkpoint: Path, mode: NormMode) -> tuple[Evaluator, list[Genes]]:
    """Returns an evaluator of the free units and all their configurations."""
    supernet = read_checkpoint(checkpoint, ModelOptions())
    graph = batched_graph(supernet, supernet.exported(), 64, lambda _: None)
    units = tuple(u for u in find_units(graph.model).units if u.name not in MANDATORY)
    train = _samples(load_digits().train)
    evaluator = Evaluator(graph, units, train, EvaluationSettings(mode))
    return evaluator, list(itertools.product((0, 1), repeat=len(units)))


def _unit_forwards(checkpoint: Path) -> float:
    evaluator, configurations = _evaluator(checkpoint, NormMode.SHARED)
    samples = _samples(load_digits().selection)
    for _ in evaluator.outputs(configurations, samples):
        pass
    naive = len(samples) * sum(not bit for bits in configurations for bit in bits)
    return evaluator.unit_rows / naive


def _accuracies(checkpoint: Path) -> Mapping[NormMode, Mapping[Genes, float]]:
    """Returns the accuracy of all configurations on the report part, by norm mode."""
    samples = _samples(load_digits().report)
    found = {}
    for mode in (NormMode.SCALAR, NormMode.FULL):
        evaluator, configurations = _evaluator(checkpoint, mode)
        found[mode] = {
            bits: float((next(iter(o.values())).argmax(1) == samples.targets).mean())
            for bits, o in evaluator.outputs(configurations, samples)
        }
    return found


def _samples(part: Part) -> Samples:
    return Samples({"images": part.images}, part.labels)

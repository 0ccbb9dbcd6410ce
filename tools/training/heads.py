"""Heads for a network that is trained: features once, then a linear layer at each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.axes.exit_places import places_of
from skipc.compiler.errors import HeadsError
from skipc.compiler.family import open_family
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.heads import Head, write_heads
from skipc.compiler.residual_scale import Scaling
from skipc.compiler.select.batched import evaluated_family
from skipc.compiler.select.data import class_labels, read_data
from skipc.compiler.select.data.sketch import sketch_of
from skipc.runtime.errors import choices_text
from skipc.tools.training.features import features_of
from skipc.tools.training.fitting import chosen_places, fitted

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.axes.exit_places import Place
    from skipc.compiler.read import Supernet
    from skipc.compiler.select.data import DataOptions
    from skipc.tools.console import Steps

_ROWS = 64


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head as it came out.

    Attributes:
        name: The unit's that it comes after.
        share: Of the network's operations up to there, its own not counted.
        accuracy: On the report part, a fraction.
        chosen: Whether it was written.
    """

    name: str
    share: float
    accuracy: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class TrainedHeads:
    """What came out.

    Attributes:
        path: The file.
        heads: At every place that was tried, in network order.
        end: The network's own accuracy on the report part, a fraction.
        samples: How many samples the heads were trained on.
    """

    path: Path
    heads: tuple[TrainedHead, ...]
    end: float
    samples: int


def train_heads(
    supernet: Supernet,
    checkpoint: Path,
    data: DataOptions,
    at: tuple[str, ...],
    count: int,
    step: Steps,
) -> TrainedHeads:
    """Trains heads on a frozen network, and writes them beside its checkpoint.

    Args:
        supernet: The network.
        checkpoint: Its file.
        data: The labelled data: trained on is the first part, places and temperatures are
            chosen on the second, accuracies are of the third.
        at: The units after which heads go; empty to choose them.
        count: How many are chosen.
        step: Told what is being done.

    Raises:
        HeadsError: The network has no place for a head, or none of a given name.
        SelectError: The data does not fit.
    """
    step("reading the data")
    parts = read_data(data, supernet.inputs, step.note, supernet.dimensions).parts
    step("exporting the network")
    family = open_family(supernet)
    places = _asked(places_of(family.network), at)
    end_macs = total_macs(family.network.model.graph)
    network = evaluated_family(supernet, family, _ROWS, Scaling(), step.note).network
    output = family.network.outputs[0]
    # Exported with a free batch, the same tensors may have other names.
    read = {place.name: place for place in places_of(network)}
    named = {
        "training": parts.reestimate,
        "selection": parts.selection,
        "report": parts.report,
    }
    labels = [class_labels(samples, output, data.text) for samples in named.values()]
    seen = []
    for what, samples in named.items():
        step(f"computing features of the {what} part")
        seen.append(
            features_of(network, [read[place.name] for place in places], samples, step.advance)
        )
    (train, _), (selection, _), (report, answers) = seen
    made, accuracies = {}, {}
    for number, place in enumerate(places, start=1):
        step(f"training the head after {place.name} ({number} of {len(places)})")
        name = place.name
        found = fitted(
            (train[name], labels[0]), (selection[name], labels[1]), answers.shape[1]
        )
        made[name] = found
        scores = report[name] @ found.weight.T + found.bias
        accuracies[name] = float((scores.argmax(1) == labels[2]).mean())
    chosen = tuple(place.name for place in places)
    if not at:
        selected = {name: found.accuracy for name, found in made.items()}
        chosen = chosen_places(places, selected, count, end_macs)
    heads = tuple(
        Head(
            name, made[name].weight, made[name].bias, accuracies[name], made[name].temperature
        )
        for name in chosen
    )
    listed = tuple(
        TrainedHead(p.name, p.macs / max(end_macs, 1), accuracies[p.name], p.name in chosen)
        for p in places
    )
    end = float((answers.argmax(1) == labels[2]).mean())
    sketch = sketch_of([parts.reestimate, parts.selection])
    path = write_heads(checkpoint, heads, sketch)
    return TrainedHeads(path, listed, end, len(labels[0]))


def _asked(places: tuple[Place, ...], at: tuple[str, ...]) -> tuple[Place, ...]:
    """Returns the places of the names asked for; all where none are."""
    names = [place.name for place in places]
    if not names:
        raise HeadsError(
            "no head can be attached: none of the network's units has a stream with a row per"
            " sample before its end. `skipc units --all` lists what was found."
        )
    for name in at:
        if name not in names:
            raise HeadsError(f"--at {name!r}: no head goes there. {choices_text(name, names)}")
    return tuple(place for place in places if not at or place.name in at)

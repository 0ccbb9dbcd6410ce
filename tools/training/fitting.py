"""Training heads on features that were computed once, and choosing where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.exit_places import Place

    Floats = NDArray[np.float32]
    Labels = NDArray[np.int64]

_STEPS = 100
_DECAY = 1e-4
_TEMPERATURES = np.geomspace(0.1, 10, 81)


class Fitted(NamedTuple):
    """A trained head.

    Attributes:
        weight: (classes, channels).
        bias: (classes,).
        accuracy: On the held-out samples, a fraction.
        temperature: What makes its probabilities fit those samples.
    """

    weight: Floats
    bias: Floats
    accuracy: float
    temperature: float


def fitted(
    train: tuple[Floats, Labels], held_out: tuple[Floats, Labels], classes: int
) -> Fitted:
    """Returns a layer that tells classes from features: multinomial logistic regression.

    The features' mean and scale are part of the layer.

    Args:
        train: Features (N, channels) and labels (N,).
        held_out: Others, for accuracy and temperature.
        classes: How many.
    """
    import torch

    features, labels = train
    mean = features.mean(0, dtype=np.float64)
    scale = 1 / (features.std(0, dtype=np.float64) + 1e-6)
    inputs = torch.from_numpy(((features - mean) * scale).astype(np.float32))
    targets = torch.from_numpy(labels)
    weight = torch.zeros(classes, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = torch.nn.functional.linear(inputs, weight, bias)
        value = torch.nn.functional.cross_entropy(scores, targets)
        value = value + _DECAY * weight.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    own = weight.detach().numpy().astype(np.float64) * scale
    offset = bias.detach().numpy().astype(np.float64) - own @ mean
    made = own.astype(np.float32), offset.astype(np.float32)
    scores = held_out[0] @ made[0].T + made[1]
    accuracy = float((scores.argmax(1) == held_out[1]).mean())
    return Fitted(*made, accuracy, temperature_of(scores, held_out[1]))


def temperature_of(scores: Floats, labels: Labels) -> float:
    """Returns what scores are divided by so that labels are most likely.

    Temperature scaling (Guo et al. 2017, section 4.2).
    """
    losses = [_negative_log_likelihood(scores / t, labels) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _negative_log_likelihood(scores: Floats, labels: Labels) -> float:
    shifted = scores - scores.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-logs[np.arange(len(labels)), labels].mean())


def chosen_places(
    places: Sequence[Place], accuracies: Mapping[str, float], count: int, end_macs: int
) -> tuple[str, ...]:
    """Returns the ``count`` places with the largest area under accuracy over operations.

    A place counts with its accuracy from its operations on, up to the network's end: what is
    gained is accuracy for each operation. Places that gain nothing over earlier ones are left.

    Args:
        places: In network order.
        accuracies: By place, what a head there reaches.
        count: At most so many.
        end_macs: The network's operations.
    """
    # best[k][i]: the largest area of k places, the last of which is place i.
    best: list[dict[int, tuple[float, tuple[int, ...]]]] = [{}]
    best[0][-1] = (0.0, ())
    for _ in range(count):
        row: dict[int, tuple[float, tuple[int, ...]]] = {}
        for number, place in enumerate(places):
            for before, (area, way) in best[-1].items():
                floor = accuracies[places[before].name] if before >= 0 else 0.0
                gain = accuracies[place.name] - floor
                if before < number and gain > 0:
                    total = area + gain * (end_macs - place.macs)
                    if number not in row or total > row[number][0]:
                        row[number] = (total, (*way, number))
        best.append(row)
    ways = [found for row in best for found in row.values()]
    _, way = max(ways, key=lambda found: found[0])
    return tuple(places[number].name for number in way)

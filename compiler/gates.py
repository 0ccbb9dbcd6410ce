"""Gates, and the file beside a checkpoint that holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from skipc.compiler.beside import Beside, fits
from skipc.compiler.bundle.files import checkpoint_sha256
from skipc.compiler.errors import GatesError
from skipc.runtime.bundle.constraints import (
    AtLeast,
    AtMost,
    Distinct,
    NotEmpty,
    Sha256,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.int64]


def part_names(unit: str, count: int) -> tuple[str, ...]:
    """Returns what the decisions about a unit of so many parts are called."""
    return (unit, *(f"{unit}:{number}" for number in range(2, count + 1)))


def _no_parts() -> Numbers:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides about a unit, by the mean over all positions of the stream before it.

    Attributes:
        name: The unit's.
        weight: (hidden, channels).
        bias: (hidden,).
        thresholds: One for each part of the channels within the unit's branch, rising: a part
            runs where the gate's score is above its own. The first is the unit's, which does
            not run without. One where channels are not told apart.
        rates: For each of them, the share of held-out samples that it ran for.
        parts: By channel within the branch, the number of its part; empty where there is one.
    """

    name: str
    weight: Floats
    bias: Floats
    thresholds: tuple[float, ...]
    rates: tuple[float, ...]
    parts: Numbers = field(default_factory=_no_parts)

    @property
    def decided(self) -> tuple[str, ...]:
        """What its decisions are called: the unit, and its parts from the second on."""
        return part_names(self.name, len(self.thresholds))


@dataclass(frozen=True, eq=False, slots=True)
class Gates:
    """The gates of a network, which share one recurrent cell.

    With the mean ``m_k`` before unit k, ``h_k = tanh(W_k m_k + b_k + R h_(k-1))`` and ``h_0 =
    0``; its score is ``s . h_k``.

    Attributes:
        gates: In network order.
        recurrent: R, (hidden, hidden).
        score: s, (hidden,).
        accuracy: On held-out samples, with nothing but the gates deciding.
    """

    gates: tuple[Gate, ...]
    recurrent: Floats
    score: Floats
    accuracy: float


Share = Annotated[float, AtLeast(0), AtMost(1)]


@dataclass(frozen=True, slots=True)
class GateEntry:
    """What the file's header says of a gate."""

    name: Text
    thresholds: Annotated[tuple[float, ...], NotEmpty()]
    rates: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class GatesHeader:
    """The file's header.

    Attributes:
        checkpoint_sha256: Of the checkpoint that the gates were trained on, or with.
        gates: In network order.
        accuracy: On held-out samples.
        data_sketch: Of the data that chose them; empty where that is not known.
    """

    FORMAT: ClassVar[str] = "skipc.gates/2"
    AGAIN: ClassVar[str] = "train the gates again with `skipc gates`"

    checkpoint_sha256: Annotated[str, Sha256()]
    gates: Annotated[tuple[GateEntry, ...], NotEmpty(), Distinct("name")]
    accuracy: Share
    data_sketch: Text = ""

    def check(self, where: str) -> None:
        """Raises ``GatesError`` where thresholds fall, or have other rates than one each."""
        for gate in self.gates:
            rising = all(one <= other for one, other in pairwise(gate.thresholds))
            if not rising or len(gate.rates) != len(gate.thresholds):
                raise GatesError(
                    f"{where}: the gate {gate.name!r} has the thresholds"
                    f" {[*gate.thresholds]} and the rates {[*gate.rates]}, expected thresholds"
                    f" that rise and a rate for each: {self.AGAIN}."
                )


_FILES = Beside("gates", GatesHeader, GatesError)


def gates_path(checkpoint: Path) -> Path:
    """Returns where the gates of a checkpoint lie: beside it."""
    return _FILES.path(checkpoint)


def read_gates(checkpoint: Path) -> Gates | None:
    """Returns the gates that lie beside a checkpoint; None where none do.

    Raises:
        GatesError: The file is damaged, or its gates are another checkpoint's.
    """
    found = _FILES.read(checkpoint)
    if found is None:
        return None
    header, tensors = found
    recurrent, score = tensors.get("cell/recurrent"), tensors.get("cell/score")
    if (
        score is None
        or recurrent is None
        or not fits(score, -1)
        or not fits(recurrent, len(score), len(score))
    ):
        raise GatesError(
            f"{gates_path(checkpoint)}: has no cell that fits: expected finite float32 of"
            " (hidden, hidden) and (hidden,). Train the gates again with `skipc gates`."
        )
    path = gates_path(checkpoint)
    gates = tuple(_gate(entry, tensors, len(score), path) for entry in header.gates)
    return Gates(gates, recurrent, score, header.accuracy)


def gates_sketch(checkpoint: Path) -> str:
    """Returns the sketch of the data that chose the gates beside a checkpoint, if known.

    Raises:
        GatesError: The file is damaged.
    """
    found = _FILES.read_any(checkpoint)
    return found[0].data_sketch if found is not None else ""


def write_gates(checkpoint: Path, gates: Gates, data_sketch: str = "") -> Path:
    """Writes the gates of a checkpoint beside it, whole or not at all; returns the file.

    ``data_sketch`` is of the data that chose them.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    tensors: dict[str, NDArray[Any]] = {
        "cell/recurrent": gates.recurrent,
        "cell/score": gates.score,
    }
    for gate in gates.gates:
        tensors[f"{gate.name}/weight"], tensors[f"{gate.name}/bias"] = gate.weight, gate.bias
        if len(gate.parts):
            tensors[f"{gate.name}/parts"] = gate.parts
    entries = tuple(GateEntry(gate.name, gate.thresholds, gate.rates) for gate in gates.gates)
    sha256 = checkpoint_sha256(checkpoint)
    header = GatesHeader(sha256, entries, gates.accuracy, data_sketch)
    return _FILES.write(checkpoint, header, tensors)


def _gate(
    entry: GateEntry, tensors: Mapping[str, NDArray[Any]], hidden: int, path: Path
) -> Gate:
    weight, bias = (tensors.get(f"{entry.name}/{part}") for part in ("weight", "bias"))
    if (
        weight is None
        or bias is None
        or not fits(weight, hidden, -1)
        or not fits(bias, hidden)
    ):
        raise GatesError(
            f"{path}: the gate {entry.name!r} has no weights that fit: expected finite float32"
            f" of ({hidden}, channels) and ({hidden},). Train the gates again with `skipc"
            " gates`."
        )
    parts = tensors.get(f"{entry.name}/parts", _no_parts())
    count = len(entry.thresholds) if len(entry.thresholds) > 1 else 0
    known = parts.dtype == np.int64 and parts.ndim == 1
    if not known or not np.array_equal(np.unique(parts), np.arange(count)):
        raise GatesError(
            f"{path}: the gate {entry.name!r} has {len(entry.thresholds)} thresholds, but not"
            " as many parts: expected for each channel the number of its part, int64. Train"
            " the gates again with `skipc gates`."
        )
    return Gate(entry.name, weight, bias, entry.thresholds, entry.rates, parts)

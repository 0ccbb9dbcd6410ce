"""Gates, and the file beside a checkpoint that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

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

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides about a unit, by the mean over all positions of the stream before it.

    Attributes:
        name: The unit's.
        weight: (hidden, channels).
        bias: (hidden,).
        threshold: The unit runs where the gate's score is above.
        rate: The share of held-out samples that it ran for.
    """

    name: str
    weight: Floats
    bias: Floats
    threshold: float
    rate: float


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


@dataclass(frozen=True, slots=True)
class GateEntry:
    """What the file's header says of a gate."""

    name: Text
    threshold: float
    rate: Annotated[float, AtLeast(0), AtMost(1)]


@dataclass(frozen=True, slots=True)
class GatesHeader:
    """The file's header.

    Attributes:
        checkpoint_sha256: Of the checkpoint that the gates were trained on, or with.
        gates: In network order.
        accuracy: On held-out samples.
        data_sketch: Of the data that chose them; empty where that is not known.
    """

    FORMAT: ClassVar[str] = "skipc.gates/1"
    AGAIN: ClassVar[str] = "train the gates again with `skipc gates`"

    checkpoint_sha256: Annotated[str, Sha256()]
    gates: Annotated[tuple[GateEntry, ...], NotEmpty(), Distinct("name")]
    accuracy: Annotated[float, AtLeast(0), AtMost(1)]
    data_sketch: Text = ""

    def check(self, where: str) -> None:
        """Has nothing to compare."""


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
    entries = tuple(GateEntry(gate.name, gate.threshold, gate.rate) for gate in gates.gates)
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
    return Gate(entry.name, weight, bias, entry.threshold, entry.rate)

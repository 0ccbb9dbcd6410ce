"""What a run leaves on disk: the state to resume from, and the log."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from skipc.compiler.bundle.files import write_whole
from skipc.tools.training import TrainError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "skipc.training/1"
LAST_FILE = "last.pt"


@dataclass(frozen=True, slots=True)
class RunState:
    """A training after some epochs; PyTorch's own state dicts.

    Attributes:
        epoch: Epochs done.
        model: The network's.
        optimizer: The optimiser's.
        schedule: The learning rate's.
        scaler: The gradient scaler's.
    """

    epoch: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One epoch in the log; ``base_accuracy`` is NaN for networks that do not switch."""

    epoch: int
    loss: float
    accuracy: float
    base_accuracy: float
    rate: float
    seconds: float


def save_state(path: Path, state: RunState, identity: Mapping[str, object]) -> None:
    """Writes a state, whole or not at all.

    Args:
        path: The file.
        state: The state.
        identity: What makes the run the run it is, JSON values.
    """
    content = {field.name: getattr(state, field.name) for field in fields(state)}
    document = {"format": FORMAT, "identity": json.dumps(identity, sort_keys=True), **content}
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_whole(path, buffer.getvalue())


def load_state(path: Path, identity: Mapping[str, object]) -> RunState:
    """Returns the state in ``path``; nothing in it is run.

    Raises:
        TrainError: There is none, it is damaged, or it is of a run with other settings.
    """
    if not path.is_file():
        raise TrainError(f"--resume: there is no {path}: no epoch was finished. Leave it out.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files make the unpickler raise anything.
    except Exception as cause:
        raise TrainError(
            f"{path}: damaged, so the training cannot be resumed. Leave --resume out to begin"
            " anew."
        ) from cause
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise TrainError(f"{path}: not a training of this version of skipc ({FORMAT}).")
    before, now = json.loads(found["identity"]), json.loads(json.dumps(dict(identity)))
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        key = changed[0]
        raise TrainError(
            f"--resume: {path} is a run with {key} {before.get(key)!r}, not {now[key]!r}. Give"
            " the same options, or another --out."
        )
    return RunState(**{field.name: found[field.name] for field in fields(RunState)})


class Log:
    """A CSV file with a row per epoch.

    Args:
        path: The file; it is written anew with each row.
        keep: How many rows of an earlier run to keep.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self._path = path
        self._rows: list[list[str]] = []
        if keep and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = list(csv.reader(file))[1 : 1 + keep]

    def add(self, row: Row) -> None:
        """Writes one more row."""
        self._rows.append([f"{value:.6g}" for value in astuple(row)])
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(self._rows)
        write_whole(self._path, text.getvalue().encode())

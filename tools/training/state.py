"""What a run leaves on disk: the state to resume from, and the log."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import torch

from skipc.compiler.bundle.files import write_whole
from skipc.tools.training import TrainError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.optim.lr_scheduler import LRScheduler

    Stateful = torch.nn.Module | torch.optim.Optimizer | LRScheduler | torch.amp.GradScaler

FORMAT = "skipc.training/1"
LAST_FILE = "last.pt"


@dataclass(frozen=True, slots=True)
class Row:
    """One epoch in the log; ``base_accuracy`` is NaN for networks that do not switch."""

    epoch: int
    loss: float
    accuracy: float
    base_accuracy: float
    rate: float
    seconds: float


def save_state(
    path: Path, epoch: int, parts: Mapping[str, Stateful], identity: Mapping[str, object]
) -> None:
    """Writes how a run stands after so many epochs, whole or not at all.

    ``identity`` is what makes the run the run it is, as JSON values.
    """
    content = {name: part.state_dict() for name, part in parts.items()}
    told = json.dumps(identity, sort_keys=True)
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "identity": told, "epoch": epoch, **content}, buffer)
    write_whole(path, buffer.getvalue())


def load_state(
    path: Path, parts: Mapping[str, Stateful], identity: Mapping[str, object]
) -> int:
    """Takes up the state in ``path``, of which nothing is run; returns the epochs done.

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
    for key, value in now.items():
        if before.get(key) != value:
            raise TrainError(
                f"--resume: {path} is a run with {key} {before.get(key)!r}, not {value!r}."
                " Give the same options, or another --out."
            )
    for name, part in parts.items():
        part.load_state_dict(found[name])
    return int(found["epoch"])


class Log:
    """A CSV file, written anew with each epoch's row after ``keep`` rows of an earlier run."""

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

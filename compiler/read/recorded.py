"""What a checkpoint's own record says of its accuracy, and of what it was trained on."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.sniff import Kind, sniff

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_ACCURACY = re.compile(r"(^|[^a-z])(acc|acc1|accuracy|top1|prec1)($|[^a-z0-9])", re.IGNORECASE)
_OTHER = re.compile(r"train|top5|acc5|prec5|loss", re.IGNORECASE)


def recorded_accuracy(path: Path) -> tuple[str, float] | None:
    """Returns the accuracy that a training script left beside the weights, and its name.

    A fraction; a number above 1 is taken for per cent. Of several the smallest: it is the one
    that these weights are sure to reach. None where there is none, or no file of torch.save.
    """
    said = [
        (name, float(value))
        for name, value in _numbers(_content(path), "")
        if _ACCURACY.search(name) and not _OTHER.search(name)
    ]
    found = [(name, n / 100 if n > 1 else n) for name, n in said if 0 < n <= 100]
    return min(found, key=lambda pair: pair[1], default=None)


def recorded_sketch(path: Path) -> str:
    """Returns the sketch of the data that a checkpoint was trained on, if it has one."""
    content = _content(path)
    found = content.get("data_sketch") if isinstance(content, Mapping) else None
    return found if isinstance(found, str) else ""


def _content(path: Path) -> object:
    """Returns what a file of torch.save holds, of which no weight is read; else None."""
    try:
        if sniff(path) is not Kind.TORCH:
            return None
        import torch  # an ONNX file is built without

        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        return None
    except CheckpointError:  # no checkpoint at all: whoever needs one says so
        return None


def _numbers(content: object, where: str) -> Iterator[tuple[str, float | torch.Tensor]]:
    import torch

    for key, value in content.items() if isinstance(content, Mapping) else ():
        name = f"{where}{key}"
        single = isinstance(value, torch.Tensor) and value.numel() == 1
        if single or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            yield name, value
        elif not where:
            yield from _numbers(value, f"{name}.")

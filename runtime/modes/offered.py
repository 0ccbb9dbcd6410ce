"""What a device offers to cap its power or its clocks, read from files of the system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import gpus, limits, nvpmodel

if TYPE_CHECKING:
    from .actuators import Offer


def offered(root: Path = Path("/")) -> tuple[Offer, ...]:
    """Returns all that is offered; ``root`` is the folder to take for ``/``.

    What cannot be read is left out: nothing is assumed of it.
    """
    return (*nvpmodel.offers(root), *limits.offers(root), *gpus.offers())

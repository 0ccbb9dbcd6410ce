"""Power modes and limits: what the device at hand offers, and changing them when asked to."""

from .actuators import Offer as Offer
from .changing import Modes as Modes
from .changing import open_modes as open_modes
from .changing import restore_modes as restore_modes
from .guard import Before as Before
from .guard import guard_folder as guard_folder
from .offered import offered as offered

__all__ = [
    "Before",
    "Modes",
    "Offer",
    "guard_folder",
    "offered",
    "open_modes",
    "restore_modes",
]

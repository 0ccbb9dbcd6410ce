"""Power modes and limits: what the device at hand offers, and changing them when asked to."""

from .changing import Modes as Modes
from .offered import Offer as Offer
from .offered import offered as offered

__all__ = ["Modes", "Offer", "offered"]

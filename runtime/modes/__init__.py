"""Power modes and limits: what the device at hand offers, and what it takes to change them.

Nothing is changed here.
"""

from .offered import Offer as Offer
from .offered import offered as offered

__all__ = ["Offer", "offered"]

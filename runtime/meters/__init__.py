"""Meters: readers of energy, in millijoules.

    sampler = Sampler(open_meter("auto"))
    sampler.start()
    sampler.latest  # a Reading, or None

``meter`` says what a meter is, ``opening`` opens one by name, ``sampler`` reads it in the
background. ``hwmon``, ``nvml``, ``rapl`` and ``model`` are the kinds; each is imported when it
is used.
"""

from __future__ import annotations

from .meter import Meter, Reading
from .opening import MEASURING, meter_specs, open_meter
from .sampler import Sampler

__all__ = ["MEASURING", "Meter", "Reading", "Sampler", "meter_specs", "open_meter"]

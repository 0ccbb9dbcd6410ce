"""The runtime: opens a family bundle and runs the configuration that a budget allows.

    from skipc.runtime import AdaptiveEngine, Budget

    with AdaptiveEngine.open("resnet.skipc", budget=Budget(latency_ms=12)) as engine:
        logits = engine(images)

Needs numpy and the standard library; the backend's library is imported when it is used. The
folder may be copied into an application as it stands.
"""

from __future__ import annotations

from .adaptive import AdaptiveEngine
from .bundle.folder import Bundle
from .bundle.tensors import Dimension, TensorSpec
from .call.record import CallRecord, ModeStats
from .call.stats import ConfigurationStats, EngineStats
from .clock import Clock, FakeClock, SystemClock
from .errors import (
    BackendError,
    BackendUnavailableError,
    BudgetError,
    BundleError,
    ChoiceError,
    ClosedError,
    EngineError,
    FormatError,
    InputError,
    IntegrityError,
    MeterError,
    MeterUnavailableError,
    ModeError,
    SkipcError,
    StaleEngineError,
    VersionError,
)
from .governor import Decision, OperatingPoint, State, decide
from .governor.budget import Budget
from .meters import Meter, Reading, Sampler, open_meter

__all__ = [
    "AdaptiveEngine",
    "BackendError",
    "BackendUnavailableError",
    "Budget",
    "BudgetError",
    "Bundle",
    "BundleError",
    "CallRecord",
    "ChoiceError",
    "Clock",
    "ClosedError",
    "ConfigurationStats",
    "Decision",
    "Dimension",
    "EngineError",
    "EngineStats",
    "FakeClock",
    "FormatError",
    "InputError",
    "IntegrityError",
    "Meter",
    "MeterError",
    "MeterUnavailableError",
    "ModeError",
    "ModeStats",
    "OperatingPoint",
    "Reading",
    "Sampler",
    "SkipcError",
    "StaleEngineError",
    "State",
    "SystemClock",
    "TensorSpec",
    "VersionError",
    "decide",
    "open_meter",
]

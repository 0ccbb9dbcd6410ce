"""A configuration that an open engine gets: one more setting of the engine that runs all."""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ChoiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..backends import Arrays, Outputs, Run
    from ..load.switchable import Switchable
    from .controller import Controller
    from .orders import Orders
    from .runner import Runner


class Additions:
    """Adds configurations to an open engine.

    Args:
        switchable: What its engine switches; None where there is no such engine.
        runs: What runs each graph.
        control: Gets the operating points.
        orders: Says what they are ranked by.
        runner: Runs them.
    """

    def __init__(
        self,
        switchable: Switchable | None,
        runs: Callable[[], Mapping[str, Run]],
        control: Controller,
        orders: Orders,
        runner: Runner,
    ) -> None:
        self._switchable, self._runs = switchable, runs
        self._control, self._orders, self._runner = control, orders, runner
        self._names = {} if switchable is None else {m: n for n, m in switchable.masks.items()}
        self._lock = Lock()

    def add(self, name: str, skip: Sequence[str], accuracy: float | None) -> None:
        """Adds one; see ``OpenEngine.add``."""
        with self._lock:
            known, switchable = self._control.points, self._switchable
            if switchable is None:
                raise ChoiceError(
                    f"configuration {name!r} cannot be added: each has an engine of its own."
                    " Build them with `skipc finish --engines one`."
                )
            if not isinstance(name, str) or not name or name in known:
                raise ChoiceError(
                    f"configuration {name!r}: expected a name that is none of {[*known]}."
                )
            mask = switchable.mask(skip)
            if mask in self._names:
                raise ChoiceError(
                    f"configuration {name!r} would skip what {self._names[mask]!r} does."
                )
            ranked_by = self._orders.ranked_by
            point = switchable.point(name, mask, known, ranked_by, accuracy)
            stage = switchable.stage(mask)
            setting = {key: np.array(values) for key, values in stage.settings.items()}
            self._runner.add(name, partial(_set, self._runs()[stage.graph], setting))
            self._control.add(point)
            self._names[mask] = name


def _set(run: Run, setting: Arrays, inputs: Arrays) -> Outputs:
    return run({**inputs, **setting})

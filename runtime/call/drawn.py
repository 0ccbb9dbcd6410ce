"""Inputs that nobody gives: drawn anew for each call, of a seed that the system gives."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.tensors import sizes_of
from .arrays import InputChecker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..bundle.prologue import Draw
    from ..bundle.tensors import Dimension, TensorSpec


class DrawingChecker(InputChecker):
    """The inputs that a network takes, of which some are drawn where they are not given."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        dimensions: Sequence[Dimension],
        nan: str,
        draws: Sequence[Draw],
    ) -> None:
        super().__init__(inputs, dimensions, nan)
        named = {draw.name for draw in draws}
        given = [spec for spec in inputs if spec.name not in named]
        specs = {spec.name: spec for spec in inputs}
        self._draws = [(draw, specs[draw.name]) for draw in draws]
        self._given = InputChecker(given, dimensions, nan)
        self._given_specs = given
        self._random, self._lock = np.random.default_rng(), Lock()

    def check(self, given: object) -> dict[str, NDArray[Any]]:
        """Returns the arrays by input name, with those that were drawn; see ``InputChecker``.

        One that is drawn may be given, too: to have it fixed, give all of them.
        """
        if isinstance(given, Mapping) and any(draw.name in given for draw, _ in self._draws):
            return super().check(given)
        arrays = self._given.check(given)
        sizes = sizes_of(arrays, self._given_specs)
        with self._lock:  # a generator is not for several threads at once
            drawn = {
                draw.name: draw.draw(self._random, spec.shape_at(sizes), spec.dtype)
                for draw, spec in self._draws
            }
        return {**arrays, **drawn}

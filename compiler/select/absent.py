"""Dense layers while configurations are evaluated and counted: channels that are absent."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from skipc.compiler.axes.concatenations import find_concatenations

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.axes.width_groups import Group

_REMEMBERED = 64


class AbsentChannels:
    """What skipping dense layers leaves of the channels that concatenations make.

    Args:
        model: The graph.
        units: Its units.

    Attributes:
        groups: The channels of concatenations that may be absent, by name.
    """

    def __init__(self, model: ir.Model, units: Sequence[Unit]) -> None:
        dense = {unit.features for unit in units if unit.features}
        self._units = units
        self._found = find_concatenations(model) if dense else None
        self.groups: dict[str, Group] = {}
        self._at: dict[str, str] = {}
        if self._found is not None:
            stays = self._found.spread(dict.fromkeys(dense, 0), 1)
            for name, each in self._found.by_name.items():
                if not stays[name].all():
                    self.groups[name] = each.group
                    self._at |= dict.fromkeys((c.value for c in each.group.read), name)
        self._spread = lru_cache(_REMEMBERED)(self._spread_of)

    @property
    def tensors(self) -> frozenset[str]:
        """The tensors that layers read such channels of, by name."""
        return frozenset(self._at)

    def skipped(self, bits: int) -> frozenset[str]:
        """Returns the features that are absent where the units of these bits are skipped."""
        return frozenset(
            unit.features
            for number, unit in enumerate(self._units)
            if unit.features and bits >> number & 1
        )

    def kept(self, tensor: str, features: frozenset[str]) -> NDArray[np.bool_]:
        """Returns which channels of a tensor stay without some features."""
        kept: NDArray[np.bool_] = self._spread(features)[self._at[tensor]]
        return kept

    def shares(self, units: Sequence[Unit]) -> dict[str, Fraction]:
        """Returns the share of channels that stays without units, by concatenation."""
        features = frozenset(unit.features for unit in units if unit.features)
        if not features:
            return {}
        return {
            name: Fraction(int(self._spread(features)[name].sum()), group.channels)
            for name, group in self.groups.items()
        }

    def _spread_of(self, features: frozenset[str]) -> dict[str, NDArray[np.bool_]]:
        assert self._found is not None
        found = self._found.spread(dict.fromkeys(features, 0), 1)
        return {name: stays != 0 for name, stays in found.items()}

"""A configuration that a router chooses: what it may name, and what its bias comes to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from ..errors import FormatError
from .constraints import AtLeast, AtMost, Distinct, NotEmpty

_Share = Annotated[float, AtLeast(0), AtMost(1)]
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Biased:
    """What a route comes to where its router has this bias.

    Attributes:
        bias: The bias.
        accuracy: A fraction, on samples that the router was not trained on.
        stops: By stage, the share of samples that are answered there.
    """

    bias: float
    accuracy: _Share
    stops: Annotated[tuple[_Share, ...], NotEmpty()]


@dataclass(frozen=True, slots=True)
class Routed:
    """What a router chooses from.

    Attributes:
        ways: The configurations that it names, in the order of its scores.
        curve: What its biases come to, the smallest first.
    """

    ways: Annotated[tuple[str, ...], NotEmpty(), Distinct()]
    curve: Annotated[tuple[Biased, ...], NotEmpty()]

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where biases do not rise, or not all samples are answered."""
        for before, at in pairwise(self.curve):
            if at.bias <= before.bias:
                raise FormatError(
                    f"{where}: 'curve' has the bias {at.bias:g} after {before.bias:g},"
                    " expected the smallest first."
                )
        for at in self.curve:
            if abs(sum(at.stops) - 1) > _ROUNDING:
                raise FormatError(
                    f"{where}: 'stops' of the bias {at.bias:g} sums up to {sum(at.stops):g},"
                    " expected 1: every sample is answered somewhere."
                )

    def check_stages(self, stages: int, ways: int, where: str) -> None:
        """Raises ``FormatError`` where it is of another route, or of another router."""
        if len(self.ways) != ways:
            raise FormatError(
                f"{where}: 'routed' names {len(self.ways)} ways, expected one for each of the"
                f" {ways} that the test of its first stage has."
            )
        unfit = [at for at in self.curve if len(at.stops) != stages]
        if unfit:
            raise FormatError(
                f"{where}: 'stops' of the bias {unfit[0].bias:g} has {len(unfit[0].stops)}"
                f" entries, expected one for each of the {stages} stages of its route."
            )

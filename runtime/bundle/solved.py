"""What `skipc policy` found about a configuration's tests: for people, the runtime needs none.

All of it is of the report part of the data, which nothing was chosen by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..errors import FormatError, choices_text
from .constraints import AtLeast, AtMost, Count, Distinct, NotEmpty, Positive, Text

_Share = Annotated[float, AtLeast(0), AtMost(1)]


@dataclass(frozen=True, slots=True)
class ExitOutcome:
    """What answering always at one exit comes to: a fraction that is right, and its time."""

    accuracy: _Share
    upto_ms: Positive


@dataclass(frozen=True, slots=True)
class Traded:
    """What one policy comes to: a fraction that is right, and what a sample takes."""

    accuracy: _Share
    mean_ms: Positive


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """What one kind of policy comes to.

    Attributes:
        name: The kind.
        accuracy: At the wanted point, a fraction.
        mean_ms: What a sample takes there.
        stops: By exit, the share of samples that are answered there.
        curve: The same kind from the safest on; empty where there is one policy.
    """

    name: Text
    accuracy: _Share
    mean_ms: Positive
    stops: Annotated[tuple[_Share, ...], NotEmpty()]
    curve: tuple[Traded, ...] = ()


@dataclass(frozen=True, slots=True)
class SolvedPolicy:
    """How the tests of a configuration were found, and what else there was.

    Attributes:
        policy: The kind that is used.
        source: Where times are from, as of an ``OperatingPoint``.
        samples: How many were looked at.
        exits: By exit, what answering always there comes to.
        outcomes: By kind, also of those that no runtime can follow.
    """

    policy: Text
    source: Text
    samples: Count
    exits: Annotated[tuple[ExitOutcome, ...], NotEmpty()]
    outcomes: Annotated[tuple[PolicyOutcome, ...], NotEmpty(), Distinct("name")]

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where it is of another number of exits than it says."""
        kinds = [outcome.name for outcome in self.outcomes]
        if self.policy not in kinds:
            raise FormatError(
                f"{where}: 'policy' is {self.policy[:80]!r}, of which nothing is said."
                f" {choices_text(self.policy, kinds)}"
            )
        for outcome in self.outcomes:
            if len(outcome.stops) != len(self.exits):
                raise FormatError(
                    f"{where}: outcome {outcome.name[:80]!r}: 'stops' has"
                    f" {len(outcome.stops)} entries, expected one for each of"
                    f" {len(self.exits)} exits."
                )

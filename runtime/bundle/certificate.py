"""What was shown of a configuration's tests, and of its route where a deadline cuts it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, TypeAlias

from ..errors import FormatError
from .constraints import AtLeast, AtMost, Count, NotEmpty, Sha256, Text

Kind: TypeAlias = Literal["max-error", "max-drop", "max-disagreement"]

_Share = Annotated[float, AtLeast(0), AtMost(1)]
_LOST = {
    "max-error": "answered wrong",
    "max-drop": "answered wrong that the last exit gets right",
    "max-disagreement": "answered otherwise than by the last exit",
}


class Limit(NamedTuple):
    """The largest share of samples that is lost, by what ``kind`` is of, and how surely."""

    kind: Kind
    share: float
    confidence: float

    def __str__(self) -> str:
        return (
            f"at most {percent_up(self.share)} of the samples are {_LOST[self.kind]}, sure to"
            f" {100 * self.confidence:g} %"
        )


@dataclass(frozen=True, slots=True)
class CutLimit:
    """What is lost where a deadline cuts a route at one exit: how many were, and at most."""

    failures: int
    bound: _Share


@dataclass(frozen=True, slots=True)
class Cuts:
    """What is lost where a deadline cuts a route: a sample that would go on is answered.

    Attributes:
        samples: How many were looked at; nothing was chosen by them.
        data_sha256: Hash of those samples.
        exits: By exit but the last. All hold together, as surely as the certificate says.
    """

    samples: Count
    data_sha256: Annotated[str, Sha256()]
    exits: Annotated[tuple[CutLimit, ...], NotEmpty()]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was shown of a configuration's tests, on samples that nothing else had seen."""

    kind: Kind
    bound: _Share
    confidence: _Share
    samples: Count
    failures: int
    data_sha256: Annotated[str, Sha256()]
    policy: str
    target: Text
    cuts: Cuts | None = None

    @property
    def limit(self) -> Limit:
        """What holds where nothing cuts the route."""
        return Limit(self.kind, self.bound, self.confidence)

    @property
    def text(self) -> str:
        """What holds in words, and what was seen."""
        return f"{self.limit} ({self.failures} of {self.samples} were)"

    def limit_of_call(self, stage: int, stopped_by: str) -> Limit | None:
        """Returns what covers a call; None where a deadline ended it and nothing was shown.

        Args:
            stage: Where it stopped; the first such stage of a batch that a deadline cut, whose
                other rows may have gone on.
            stopped_by: What ended it: ``end``, a ``test``, or a ``deadline``.
        """
        if stopped_by != "deadline":
            return self.limit
        if self.cuts is None:
            return None
        bounds = [each.bound for each in self.cuts.exits[stage:]]
        return Limit(self.kind, max([*bounds, self.bound]), self.confidence)

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where more samples are lost than there are."""
        seen = [("", self.failures, self.samples)]
        if self.cuts is not None:
            seen += [("cuts: ", e.failures, self.cuts.samples) for e in self.cuts.exits]
        for place, failures, samples in seen:
            if failures > samples:
                raise FormatError(
                    f"{where}: {place}'failures' is {failures}, of {samples} samples."
                )

    def check_stages(self, stages: int, where: str) -> None:
        """Raises ``FormatError`` where it is of another number of stages than the route's."""
        if stages < 2:
            raise FormatError(
                f"{where}: has a 'certificate', but no test that it could be of."
            )
        if self.cuts is not None and len(self.cuts.exits) != stages - 1:
            raise FormatError(
                f"{where}: 'cuts' of the 'certificate' has {len(self.cuts.exits)} exits,"
                f" expected one for each of the {stages} stages of its route but the last."
            )


def percent_up(share: float) -> str:
    """Returns an upper limit as people read it, rounded up."""
    return f"{math.ceil(10_000 * share - 1e-6) / 100:g} %"

"""What a front comes to for the networks that are given: each entry's choices, read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skipc.compiler import axes
from skipc.compiler.axes.axis import first_names
from skipc.compiler.errors import FrontError
from skipc.runtime.bundle.manifest import ChoiceEntry, PartEntry
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from skipc.compiler.axes.axis import Offer
    from skipc.compiler.front import ExitTest, Front, FrontPart
    from skipc.compiler.front_files import FrontRouter


@dataclass(frozen=True, slots=True)
class Part:
    """A network of a configuration.

    Attributes:
        network: Its name; "" where there is one.
        choices: The choice by axis; an axis that is missing is left alone.
        statistics: The name that its norm statistics have.
    """

    network: str
    choices: Mapping[str, object]
    statistics: str

    @property
    def chosen(self) -> PartEntry:
        """What was chosen, without axes of which nothing was taken."""
        entry = self.entry
        return replace(entry, choices=tuple(c for c in entry.choices if c.taken))

    @property
    def entry(self) -> PartEntry:
        """What was chosen, for the manifest."""
        chosen = [(a, self.choices[a.key]) for a in axes.AXES if a.key in self.choices]
        entries = (ChoiceEntry(a.key, a.taken(choice), a.text(choice)) for a, choice in chosen)
        return PartEntry(self.network, tuple(entries))


@dataclass(frozen=True, slots=True)
class Configuration:
    """A front entry resolved against what the networks offer."""

    name: str
    parts: tuple[Part, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    tests: tuple[ExitTest, ...] = ()
    stops: tuple[float, ...] = ()
    router: FrontRouter | None = None


def configurations_from_front(
    front: Front, offers: Mapping[str, Mapping[str, Offer]], where: str
) -> tuple[Configuration, ...]:
    """Returns the front's configurations with their choices.

    Args:
        front: The front.
        offers: What each network offers, by the network's name and by axis.
        where: The front's file, for error messages.

    Raises:
        FrontError: An entry chooses what is not offered, or two entries choose the same.
    """
    for network, offered in offers.items():
        for key, names in front.of(network).options.items():
            found = offered[key].names if key in offered else ()
            if names and names != found:
                raise FrontError(
                    f"{where}: made for another network: of the axis {key!r} it lists"
                    f" {len(names)} options ({first_names(names)}), this network has"
                    f" {len(found)} ({first_names(found)})."
                )
    resolved = []
    first: dict[object, str] = {}
    for entry in front.configurations:
        parts = tuple(
            _resolved(part, offers, f"{where}: {entry.name!r}") for part in entry.networks
        )
        tests = tuple(
            (t.threshold, t.temperature, t.jump, t.output, *sorted(t.scores.items()))
            for t in entry.tests
        )
        chosen = tuple(part.chosen for part in parts)
        same = first.setdefault((chosen, tests, entry.router), entry.name)
        if same != entry.name:
            taken = [choice for part in chosen for choice in part.choices]
            what = "; ".join(f"{each.axis}: {', '.join(each.taken)}" for each in taken)
            raise FrontError(
                f"{where}: {same!r} and {entry.name!r} choose the same ({what or 'nothing'})."
                " Remove one."
            )
        metrics = dict(entry.metrics)
        resolved.append(
            Configuration(entry.name, parts, metrics, entry.tests, entry.stops, entry.router)
        )
    return tuple(resolved)


def check_networks(front: Front, networks: Collection[str], where: str) -> None:
    """Raises ``FrontError`` where a configuration runs a network that is not given.

    Args:
        front: The front.
        networks: The networks' names.
        where: The front's file, for error messages.
    """
    for entry in front.configurations:
        for part in entry.networks:
            if part.network not in networks and (part.network or len(networks) > 1):
                said = f"is none: {part.network!r}" if part.network else "is not named"
                raise FrontError(
                    f"{where}: {entry.name!r}: its 'network' {said}."
                    f" {choices_text(part.network, networks)}"
                )


def _resolved(part: FrontPart, offers: Mapping[str, Mapping[str, Offer]], place: str) -> Part:
    """Returns a part with its choices; one that names no network is of the only one."""
    network = part.network or next(iter(offers))
    choices = {
        axis.key: axis.read(part.choices[axis.key], offers[network][axis.key], place)
        for axis in axes.AXES
        if axis.key in part.choices
    }
    return Part(network, choices, part.statistics)

"""What a configuration takes on disk, on the host and on the device: its own, and shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from skipc.tools.console import short, size_text
from skipc.tools.report.sections.marks import Piece, stacked_bars, stacked_chart, strokes
from skipc.tools.trtbench.report import DeviceShare
from skipc.tools.web.html import Html, Table, element, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Study
    from skipc.tools.trtbench.report import Memory, Share
    from skipc.tools.web.chart import Chart

_Shares: TypeAlias = "tuple[tuple[str, Share | DeviceShare | None], ...]"

_SHARED, _OWN = Piece("shared", LIGHT.every, ""), Piece("own", LIGHT.own, ".")
_TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where memory is taken.

    Attributes:
        name: In the charts' names.
        words: In their titles.
        caption: What own and shared are there.
        share: Finds a configuration's; None where it is not known.
        nothing: What is said where there is nothing to draw.
    """

    name: str
    words: str
    caption: str
    share: Callable[[Memory], Share | DeviceShare | None]
    nothing: str


_PLACES = (
    _Place(
        "disk",
        "weights on disk",
        "Own: weights of the engine that no other configuration uses; a plan with its weights"
        " inside counts as a whole. Shared: weights that others use, too.",
        lambda memory: memory.disk,
        "no weights on disk.",
    ),
    _Place(
        "host",
        "memory on the host",
        "Own: what the process grew by (PSS) while the engine was loaded and called once. A"
        " page of shared weights counts for the engine that touches it first, which is the"
        " first one loaded. Shared: what the process grew by while the backend was opened,"
        " before any engine; mostly its library. What a configuration would take alone is not"
        " shown; of small networks this is mostly the allocator's and the interpreter's. What"
        " shrank is shown as 0.",
        lambda memory: memory.host,
        "memory on the host is not drawn: the system did not tell it (null in the file).",
    ),
    _Place(
        "device",
        "memory on the device",
        "Own: what the loaded engine takes, shared: the workspace that it needs, both as the"
        " bundle lists them; engines that take turns have one workspace, as large as the"
        " largest needs. Stroke (taken): by how much the device's free memory fell while the"
        " engine was loaded, whoever took it.",
        lambda memory: memory.device,
        "memory on the device is not drawn, all is 0: there is none on a CPU, or the engines"
        " were built without the device to ask.",
    ),
)


def section(study: Study) -> Section | None:
    """Returns a chart for each place and series; None where no memory was measured."""
    charts: list[Html] = []
    notes: list[Html] = []
    for place in _PLACES:
        shares = _shares(study, place)
        charts += _charts(place, shares)
        notes += (element("li", text) for text in _missing(place, shares))
    if not charts and not notes:
        return None
    return Section(
        "memory",
        "Memory",
        "What trtbench found while it loaded the engines one after the other: what each takes"
        " by itself, and what it shares.",
        joined(*charts, element("ul", *notes, class_="note") if notes else ""),
    )


def _shares(study: Study, place: _Place) -> dict[str, _Shares]:
    """Returns what is taken in a place, by series and configuration, in the page's order."""
    return {
        found.one.label: tuple(
            (point.configuration, place.share(memory)) for point, memory in found.points
        )
        for found in study.measured(lambda point: point.memory)
    }


def _charts(place: _Place, shares: dict[str, _Shares]) -> list[Html]:
    """Returns a place's charts; series that agree, as on one disk, have one together."""
    labels: dict[tuple[tuple[str, Share | DeviceShare], ...], list[str]] = {}
    for label, known in shares.items():
        found = tuple((name, share) for name, share in known if share is not None)
        if _is_drawn(found):
            labels.setdefault(found, []).append(label)
    return [
        _chart(place, found, " and ".join(series), f"memory-{place.name}-{index}").html()
        for index, (found, series) in enumerate(labels.items())
    ]


def _missing(place: _Place, shares: dict[str, _Shares]) -> list[str]:
    """Returns what is said of series, or configurations, that are not drawn."""
    said = []
    for label, known in shares.items():
        unknown = [short(name, 40) for name, share in known if share is None]
        if not _is_drawn(tuple((name, share) for name, share in known if share is not None)):
            said.append(f"{label}: {place.nothing}")
        elif unknown:
            said.append(f"{label}, {', '.join(unknown)}: {place.nothing}")
    return said


def _is_drawn(found: Sequence[tuple[str, Share | DeviceShare]]) -> bool:
    return any(any(_sizes(share)) for _, share in found)


def _sizes(share: Share | DeviceShare) -> tuple[int, int, int]:
    """Returns own, shared, and taken bytes; what is not measured of a place is 0."""
    taken_bytes = share.taken_bytes if isinstance(share, DeviceShare) else 0
    return share.own_bytes, share.shared_bytes, taken_bytes


def _chart(
    place: _Place, found: Sequence[tuple[str, Share | DeviceShare]], label: str, name: str
) -> Chart:
    names = [configuration for configuration, _ in found]
    sizes = [_sizes(share) for _, share in found]
    on_device = isinstance(found[0][1], DeviceShare)
    own, shared, taken = ([row[i] for row in sizes] for i in range(3))
    traces = [_bars(_SHARED, names, shared), _bars(_OWN, names, own)]
    if on_device:
        told = [f"{_TAKEN} {size_text(size)}" for size in taken]
        traces.append(strokes(_TAKEN, names, [size / 1e6 for size in taken], told))
    rows = (
        (short(who, 60), *(size_text(size) for size in row[: 3 if on_device else 2]))
        for who, row in zip(names, sizes, strict=True)
    )
    headings = ("configuration", ">own", ">shared", *((f">{_TAKEN}",) if on_device else ()))
    return stacked_chart(
        name,
        f"{label}: {place.words}",
        place.caption,
        traces,
        names,
        f"{place.words}, MB",
        Table(f"{label}: {place.words}", headings, tuple(rows)),
    )


def _bars(piece: Piece, names: Sequence[str], sizes_bytes: Sequence[int]) -> Trace:
    told = [f"{size_text(size)} {piece.words}" for size in sizes_bytes]
    return stacked_bars(piece, names, [size / 1e6 for size in sizes_bytes], told)

"""Where a configuration of several stages answers: how often, after what, and how well."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from skipc.runtime.bundle.certificate import percent_up
from skipc.runtime.bundle.route import upto_ends
from skipc.tools.console import count_text, print_prose, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from skipc.runtime.bundle.certificate import Certificate
    from skipc.runtime.bundle.manifest import ConfigurationEntry, Manifest
    from skipc.runtime.bundle.route import Test
    from skipc.runtime.bundle.routed import Routed
    from skipc.runtime.bundle.solved import SolvedPolicy

HEADINGS = ("exit", ">answered", ">MACs", ">time", ">accuracy alone", "answers where")


class RouteExit(NamedTuple):
    """One exit of a route; what is not known is None.

    Attributes:
        name: The head, or ``end``; behind the network's name where there are several, and
            behind its resolution where it is not the full one.
        share: Of the samples, how many are answered here.
        macs: Operations up to here.
        upto_ms: The time up to here, as the policy's solver had it.
        accuracy: If all were answered here, a fraction.
        condition: When a sample is answered here, as a formula.
    """

    name: str
    share: float
    macs: int
    upto_ms: float | None
    accuracy: float | None
    condition: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells below ``HEADINGS``."""
        return (
            self.name,
            percent_of(self.share),
            count_text(self.macs),
            "-" if self.upto_ms is None else f"{self.upto_ms:.3g} ms",
            "-" if self.accuracy is None else percent_of(self.accuracy),
            self.condition,
        )


def exits_of(manifest: Manifest, entry: ConfigurationEntry) -> tuple[RouteExit, ...]:
    """Returns the stages of a route, each as the exit that it is."""
    if entry.routed is not None:
        return _ways(manifest, entry, entry.routed)
    parts = iter(entry.parts)
    solved, macs, found = entry.solved, 0, list[RouteExit]()
    file = network = ""
    heads: Iterator[str] = iter(())
    for number, (stage, share) in enumerate(zip(entry.route, entry.stops, strict=True)):
        graph = manifest.graph(stage.graph)
        macs += graph.macs
        if graph.file != file:  # the graphs of a part are pieces of one file
            part, file = next(parts, entry.parts[-1]), graph.file
            network = " ".join((graph.network, *part.taken("resolution")))
            heads = iter(part.taken("exits"))
        alone = None if solved is None else solved.exits[number]
        found.append(
            RouteExit(
                f"{network} {next(heads, 'end')}".strip(),
                share,
                macs,
                None if alone is None else alone.upto_ms,
                None if alone is None else alone.accuracy,
                _condition(stage.test),
            )
        )
    return tuple(found)


def _ways(
    manifest: Manifest, entry: ConfigurationEntry, routed: Routed
) -> tuple[RouteExit, ...]:
    """Returns the stages of a route that a router chooses: itself, then those of each way."""
    macs = upto_ends(entry.route, [manifest.graph(stage.graph).macs for stage in entry.route])
    found = [("router", "", entry.route[0].test)]
    for name in routed.ways:
        way = manifest.configuration(name)
        exits = exits_of(manifest, way)
        for stage, each in zip(way.route, exits, strict=True):
            found.append((name, each.name if len(exits) > 1 else "", stage.test))
    return tuple(
        RouteExit(f"{way} {each}".strip(), share, int(upto), None, None, _condition(test))
        for (way, each, test), share, upto in zip(found, entry.stops, macs, strict=True)
    )


def _condition(test: Test | None) -> str:
    if test is None:
        return "always"
    if test.stages:
        return f"never; sends on by its scores - {test.bias:.4g} x cost"
    terms = [
        name if weight == 1 else f"{weight:.3g} {name}" for name, weight in test.scores.items()
    ]
    jump = (
        ""
        if test.jump is None
        else (f"; below {test.jump.below:.4g} jumps to stage {test.jump.stage}")
    )
    return f"{' + '.join(terms).replace('+ -', '- ')} >= {test.threshold:.4g}{jump}"


def percent_of(share: float) -> str:
    """Returns a share; what is not all is not rounded to all, nor something to nothing."""
    shown = min(max(100 * share, 0.1), 99.9) if 0 < share < 1 else 100 * share
    return f"{shown:.1f} %"


def solved_text(solved: SolvedPolicy) -> str:
    """Returns how a route's tests were found, as a sentence."""
    times = {"macs": "operations at a guessed speed", "front": "the front's latencies"}
    measured = "this device's measurements" if solved.source == "measured" else ""
    said = times.get(solved.source, measured or "the engines' tables")
    return (
        f"Its tests are those of: {solved.policy}. Accuracies are of {solved.samples} samples"
        f" that nothing was chosen by; times are {said}."
    )


def certified_text(certificate: Certificate, names: Sequence[str]) -> str:
    """Returns what is certified, in sentences; ``names`` are the route's exits."""
    cuts = certificate.cuts
    if cuts is None:
        return f"Certified: {certificate.text}. Where a deadline cuts it, nothing is."
    each = ", ".join(
        f"at {name} {percent_up(cut.bound)}"
        for name, cut in zip(names, cuts.exits, strict=False)
    )
    return (
        f"Certified: {certificate.text}. If a deadline cuts the route, at most so many are:"
        f" {each}."
    )


def print_routes(manifest: Manifest, out: Console) -> None:
    """Prints the exits of each configuration that has several, and what is certified."""
    for entry in manifest.configurations:
        if len(entry.route) < 2:
            continue
        out.print(f"\n{entry.name}", style="bold")
        rows, exits = table(*HEADINGS), exits_of(manifest, entry)
        for each in exits:
            rows.add_row(*each.cells)
        out.print(rows)
        if entry.solved is not None:
            print_prose(out, solved_text(entry.solved))
        if entry.certificate is not None:
            names = [each.name for each in exits]
            print_prose(out, certified_text(entry.certificate, names))

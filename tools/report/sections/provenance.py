"""Where all of it comes from: checkpoint, versions, hosts, conditions of the measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.views.prologue import prologue_text
from skipc.tools.web.html import Table, element, joined, note
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skipc.runtime.bundle.manifest import NetworkEntry
    from skipc.runtime.bundle.tensors import TensorSpec
    from skipc.tools.report.study import Study
    from skipc.tools.web.html import Html, Part


def section(study: Study) -> Section:
    """Returns what is needed to make the same again."""
    hosts = tuple((one.target, one.backend, _pairs(one.host)) for one in study.engines)
    engines = Table("Engines and their hosts", ("target", "backend", "host"), hosts)
    return Section(
        "provenance",
        "Provenance",
        "What the bundle was made from, and under what conditions was measured.",
        joined(
            _bundle(study).html(),
            engines.html() if hosts else note("The bundle has no engines."),
            _measurements(study).html()
            if study.measurements
            else note("Nothing was measured."),
        ),
    )


def _bundle(study: Study) -> Table:
    manifest, whose = study.manifest, study.manifest.provenance
    rows = (
        ("name", manifest.name),
        *(row for network in manifest.networks for row in _network(network)),
        ("manifest SHA-256", _hash(study.manifest_sha256)),
        ("built", whose.created_utc),
        ("precision", whose.precision),
        ("target of the build", manifest.recipe.target),
        *(("prologue", text) for text in [prologue_text(manifest)] if text),
        ("inputs", _specs(manifest.inputs)),
        ("outputs", _specs(manifest.outputs)),
        ("versions", _pairs(whose.versions)),
        *(
            (f"size {each.name}", f"{each.text}, typically {each.typical}")
            for each in manifest.dimensions
        ),
    )
    return Table("The bundle", ("what", "value"), rows)


def _network(network: NetworkEntry) -> tuple[tuple[str, Part], ...]:
    whose = f" of {network.name}" if network.name else ""
    return (
        (f"model{whose}", network.model),
        (f"checkpoint{whose}", network.checkpoint),
        (f"checkpoint SHA-256{whose}", _hash(network.checkpoint_sha256)),
        (f"norms{whose}", network.norm),
    )


def _measurements(study: Study) -> Table:
    series = study.measurements
    keys = dict.fromkeys(key for one in series for key in one.conditions)
    rows = ((key, *(one.conditions.get(key, "") for one in series)) for key in keys)
    sources = ("source", *(one.origin.value for one in series))
    labels = (one.label for one in series)
    return Table("Measurements", ("what", *labels), (sources, *rows))


def _hash(text: str) -> Html:
    return element("span", short(text, 80), class_="hash")


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in values.items())


def _specs(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{s.name} {'x'.join(map(str, s.shape))} {s.dtype}" for s in specs)

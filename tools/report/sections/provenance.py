"""Where all of it comes from: checkpoint, versions, hosts, conditions of the measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.web.html import Table, element, joined
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skipc.runtime.bundle.tensors import TensorSpec
    from skipc.tools.report.study import Study
    from skipc.tools.web.html import Html, Part

_LONGEST = 400


def section(study: Study) -> Section:
    """Returns what is needed to make the same again."""
    return Section(
        "provenance",
        "Provenance",
        "What the bundle was made from, and under what conditions was measured.",
        joined(_bundle(study).html(), *_engines(study), *_measurements(study)),
    )


def _bundle(study: Study) -> Table:
    manifest, whose = study.manifest, study.manifest.provenance
    batch = manifest.batch
    rows: list[tuple[Part, ...]] = [
        ("name", short(manifest.name, _LONGEST)),
        ("model", short(whose.model, _LONGEST)),
        ("checkpoint", short(whose.checkpoint, _LONGEST)),
        ("checkpoint SHA-256", _hash(whose.checkpoint_sha256)),
        ("manifest SHA-256", _hash(study.manifest_sha256)),
        ("built", short(whose.created_utc, _LONGEST)),
        ("norms", short(whose.norm, _LONGEST)),
        ("precision", short(whose.precision, _LONGEST)),
        ("target of the build", short(manifest.recipe.target, _LONGEST)),
        ("inputs", _specs(manifest.inputs)),
        ("outputs", _specs(manifest.outputs)),
        ("versions", _pairs(whose.versions)),
    ]
    if batch is not None:
        span = f"{batch.minimum} to {batch.maximum}, typically {batch.typical}"
        rows.append(("batch", span))
    return Table("The bundle", ("what", "value"), tuple(rows))


def _engines(study: Study) -> list[Html]:
    rows = tuple(
        (short(one.target, 60), short(one.backend, 60), _pairs(one.host))
        for one in study.engines
    )
    if not rows:
        return [element("p", "The bundle has no engines.", class_="note")]
    return [Table("Engines and their hosts", ("target", "backend", "host"), rows).html()]


def _measurements(study: Study) -> list[Html]:
    if not study.measurements:
        return [element("p", "Nothing was measured.", class_="note")]
    labels = tuple(short(one.label, 80) for one in study.measurements)
    keys: list[str] = []
    for one in study.measurements:
        keys += [key for key, _ in one.conditions if key not in keys]
    told = [dict(one.conditions) for one in study.measurements]
    rows: list[tuple[Part, ...]] = [
        ("source", *(one.origin.value for one in study.measurements))
    ]
    rows += [
        (short(key, 60), *(short(values.get(key, ""), _LONGEST) for values in told))
        for key in keys
    ]
    return [Table("Measurements", ("what", *labels), tuple(rows)).html()]


def _hash(text: str) -> Html:
    return element("span", short(text, 80), class_="hash")


def _pairs(values: Mapping[str, str]) -> str:
    return short(", ".join(f"{name} {text}" for name, text in values.items()), _LONGEST)


def _specs(specs: Iterable[TensorSpec]) -> str:
    told = (f"{s.name} {'x'.join(map(str, s.shape))} {s.dtype}" for s in specs)
    return short(", ".join(told), _LONGEST)

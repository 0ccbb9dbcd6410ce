"""FORMAT.md and the readers say the same."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple

import pytest

import skipc.runtime
from skipc.runtime.bundle import (
    certificate,
    device,
    engines,
    manifest,
    measured,
    prologue,
    route,
    solved,
    tensors,
)
from skipc.runtime.bundle.records import MAX_DOCUMENT_BYTES, read, written

TEXT = (Path(skipc.runtime.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
DOCUMENTED = {
    key
    for span in re.findall(r"`([^`\n]+)`", TEXT)
    for key in re.split(r"[.\[\]]+", span)
    if key
}


@pytest.mark.parametrize(
    "record",
    [
        manifest.Manifest,
        manifest.Provenance,
        manifest.Recipe,
        tensors.TensorSpec,
        tensors.Dimension,
        manifest.NetworkEntry,
        manifest.AxisEntry,
        manifest.OptionEntry,
        manifest.GraphEntry,
        manifest.ConfigurationEntry,
        certificate.Certificate,
        certificate.Cuts,
        certificate.CutLimit,
        solved.SolvedPolicy,
        solved.PolicyOutcome,
        solved.ExitOutcome,
        solved.Traded,
        prologue.PrologueEntry,
        prologue.Draw,
        manifest.PartEntry,
        manifest.ChoiceEntry,
        route.Stage,
        route.Test,
        manifest.Verification,
        manifest.StoredTensor,
        manifest.FileEntry,
        engines.EngineSet,
        engines.EngineEntry,
        engines.Latency,
        engines.SizedLatency,
        measured.MeasuredTable,
        measured.TableKey,
        measured.Row,
        device.Device,
    ],
    ids=lambda record: record.__name__,
)
def test_every_key_is_documented(record):
    assert {field.name for field in fields(record)} <= DOCUMENTED


@pytest.mark.parametrize(
    ("document", "example"),
    [
        (manifest.Manifest, EXAMPLES[0]),
        (engines.EngineSet, EXAMPLES[5]),
        (measured.MeasuredTable, EXAMPLES[6]),
    ],
)
def test_an_example_is_valid(document, example):
    made = read(document, example, "FORMAT.md")
    assert json.loads(json.dumps(written(made))) == example


def test_the_example_of_a_certificate_is_valid():
    made = read(certificate.Certificate, EXAMPLES[2], "FORMAT.md")
    assert json.loads(json.dumps(asdict(made))) == EXAMPLES[2]


def test_the_example_of_a_solved_policy_is_valid():
    made = read(solved.SolvedPolicy, EXAMPLES[3], "FORMAT.md")
    assert json.loads(json.dumps(asdict(made))) == EXAMPLES[3]


class _Graph(NamedTuple):
    inputs: tuple[tensors.TensorSpec, ...]
    outputs: tuple[tensors.TensorSpec, ...]


def test_the_example_of_a_route_can_be_run():
    images = tensors.TensorSpec("images", "float32", ("N", 3, 32, 32))
    hidden = tensors.TensorSpec("hidden", "float32", ("N", 64, 8, 8))
    cap = tensors.TensorSpec("cap", "float32", (1,))
    early, logits = (tensors.TensorSpec(n, "float32", ("N", 10)) for n in ("early", "logits"))
    graphs = {
        "head": _Graph((images,), (early, hidden)),
        "rest": _Graph((hidden, cap), (logits,)),
    }
    stages = [read(route.Stage, stage, "FORMAT.md") for stage in EXAMPLES[1]]
    route.check_route(stages, graphs, _Graph((images,), (logits,)), "FORMAT.md")


def test_versions_and_limits_are_those_of_the_reader():
    for document in (manifest.Manifest, engines.EngineSet, measured.MeasuredTable):
        assert f"`{document.FORMAT}`" in TEXT
    assert f"{MAX_DOCUMENT_BYTES // 2**20} MiB" in TEXT
    for score in route.SCORES:
        assert f"`{score}`" in TEXT

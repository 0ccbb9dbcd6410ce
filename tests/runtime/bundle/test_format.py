"""FORMAT.md and the readers say the same."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

import skipc.runtime
from skipc.runtime.bundle import device, engines, manifest, measured
from skipc.runtime.bundle.records import MAX_DOCUMENT_BYTES

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
        manifest.TensorSpec,
        manifest.BatchRange,
        manifest.UnitEntry,
        manifest.ConfigurationEntry,
        manifest.Verification,
        manifest.StoredTensor,
        manifest.FileEntry,
        engines.EngineSet,
        engines.EngineEntry,
        engines.Latency,
        measured.MeasuredTable,
        measured.TableKey,
        measured.Row,
        device.Device,
    ],
    ids=lambda record: record.__name__,
)
def test_every_key_is_documented(record):
    assert {field.name for field in fields(record)} <= DOCUMENTED


def test_manifest_example_is_valid():
    read = manifest.Manifest.from_json(EXAMPLES[0], "FORMAT.md")
    assert json.loads(json.dumps(read.to_json())) == EXAMPLES[0]


def test_engines_example_is_valid():
    read = engines.EngineSet.from_json(EXAMPLES[1], "FORMAT.md")
    assert json.loads(json.dumps(read.to_json())) == EXAMPLES[1]


def test_measured_example_is_valid():
    read = measured.MeasuredTable.from_json(EXAMPLES[2], "FORMAT.md")
    assert json.loads(json.dumps(read.to_json())) == EXAMPLES[2]


def test_versions_and_limits_are_those_of_the_reader():
    assert f"`{manifest.FORMAT}`" in TEXT
    assert f"`{engines.FORMAT}`" in TEXT
    assert f"`{measured.FORMAT}`" in TEXT
    assert f"{MAX_DOCUMENT_BYTES // 2**20} MiB" in TEXT

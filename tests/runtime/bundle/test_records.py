from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime.bundle.engines import EngineSet
from skipc.runtime.bundle.manifest import Manifest
from skipc.runtime.bundle.records import parse_json, read, written
from skipc.runtime.errors import BundleError, FormatError
from tests.bundles import write_bundle, write_engines

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.sampled_from([Manifest, EngineSet]))
def test_reader_raises_nothing_but_bundle_errors_on_any_json(value, reader):
    with pytest.raises(BundleError):
        read(reader, value, "here")


def _paths(value, prefix=()):
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, (dict, list)):
        for key, inner in items:
            yield from (
                _paths(inner, (*prefix, key))
                if isinstance(inner, (dict, list))
                else [(*prefix, key)]
            )


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = write_bundle(tmp_path_factory.mktemp("records") / "toy.skipc")
    folder = write_engines(path)
    return {
        Manifest: (path / "manifest.json").read_text(),
        EngineSet: (folder / "engines.json").read_text(),
    }


@given(data=st.data(), reader=st.sampled_from([Manifest, EngineSet]), value=json_values)
def test_reader_survives_any_one_change_of_a_valid_document(documents, data, reader, value):
    document = json.loads(documents[reader])
    *parents, last = data.draw(st.sampled_from([p for p in _paths(document) if p]))
    place = document
    for key in parents:
        place = place[key]
    place[last] = value
    try:
        made = read(reader, document, "here")
    except BundleError:
        return
    assert read(reader, json.loads(json.dumps(written(made))), "again") == made


@given(st.binary(max_size=40))
def test_parse_json_raises_nothing_but_its_error(data):
    with suppress(FormatError):
        parse_json(data, "here")

"""Another entry in a bundle: engines and tables stay good, but for what was not before."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from skipc.compiler.errors import PolicyError
from skipc.compiler.policy.answers import configuration_of
from skipc.compiler.policy.writing import check_front, replace_entry
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.certificate import Certificate, CutLimit, Cuts
from skipc.runtime.bundle.device import this_device
from skipc.runtime.bundle.measured import (
    MeasuredTable,
    Row,
    all_tables,
    find_table,
    table_key,
)
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.tensors import Dimension
from skipc.runtime.errors import FormatError, IntegrityError
from tests.bundles import (
    IMAGES,
    LOGITS,
    MACS,
    edit_json,
    make_cascade,
    set_value,
    write_bundle,
    write_engines,
)


def cascade(tmp_path):
    """Returns a bundle whose configuration full has two stages; engines for two targets."""
    path = write_bundle(tmp_path / "toy.skipc")
    make_cascade(path / "manifest.json", "full", ["fast", "full"], "logits")
    for target in ("cpu", "orin"):
        write_engines(path, target)
    return path


def certified(bundle):
    entry = bundle.manifest.configuration("full")
    cuts = Cuts(400, "b" * 64, (CutLimit(40, 0.13),))
    certificate = Certificate(
        "max-drop", 0.01, 0.9, 500, 1, "a" * 64, "learnt gates", "cpu", cuts
    )
    return replace(entry, metrics={"accuracy": 0.5}, certificate=certificate)


def write_table(bundle, **changes):
    key = replace(table_key(bundle, bundle.engine_set("cpu"), this_device(), 1), **changes)
    rows = tuple(Row(name, 1.0, 1.0, 1.0, 40, None, None) for name in MACS)
    file = bundle.path / key.path()
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(written(MeasuredTable(key, "now", {}, "", rows))))


def test_engines_and_tables_are_of_the_new_manifest(tmp_path):
    path = cascade(tmp_path)
    old = Bundle.open(path)
    write_table(old)
    write_table(old, bundle_sha256="0" * 64)
    kept = path / "engines" / ".cpu.kept"
    kept.mkdir()
    (kept / "plan").write_text("half a build")
    built = old.engine_set("cpu").engines
    replace_entry(old, certified(old))
    new = Bundle.open(path)
    assert new.manifest_sha256 != old.manifest_sha256
    entry = new.manifest.configuration("full")
    assert entry.certificate == certified(old).certificate
    assert entry.metrics == {"accuracy": 0.5}
    for target in ("cpu", "orin"):
        engines = new.verify_engines(new.engine_dir(target), target)
        assert engines.engines == built
    key = table_key(new, new.engine_set("cpu"), this_device(), 1)
    assert find_table(new, key) is not None
    assert {t.key.bundle_sha256 for t in all_tables(new)} == {new.manifest_sha256, "0" * 64}
    assert (kept / "plan").read_text() == "half a build"
    assert [each.name for each in tmp_path.iterdir()] == ["toy.skipc"]


def test_altered_engines_are_not_sealed_anew(tmp_path):
    path = cascade(tmp_path)
    edit_json(path / "engines/orin/engines.json", set_value("host", "machine", value="other"))
    bundle = Bundle.open(path)
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(IntegrityError, match=r"orin.engines\.json: its content does not have"):
        replace_entry(bundle, certified(bundle))
    assert (path / "manifest.json").read_bytes() == before


def cut(*limits):
    exits = [{"failures": failures, "bound": bound} for failures, bound in limits]
    return {"samples": 400, "data_sha256": "b" * 64, "exits": exits}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "max-luck"}, "'kind' is 'max-luck'"),
        ({"bound": 1.5}, "'bound' must be"),
        ({"failures": 501}, "'failures' is 501, of 500 samples"),
        ({"data_sha256": "a"}, "64 hexadecimal digits"),
        ({"cuts": cut((9, 0.1), (3, 0.1))}, "'cuts' of the 'certificate' has 2 exits"),
        ({"cuts": cut((401, 0.1))}, "cuts: 'failures' is 401, of 400 samples"),
        ({"cuts": cut((9, 1.5))}, "'bound' must be"),
        ({"cuts": cut()}, "'exits'"),
    ],
)
def test_a_certificate_that_means_nothing_is_refused(tmp_path, change, message):
    path = cascade(tmp_path)
    bundle = Bundle.open(path)
    replace_entry(bundle, certified(bundle))

    def edit(document):
        document["configurations"][0]["certificate"].update(change)

    edit_json(path / "manifest.json", edit)
    with pytest.raises(FormatError, match=message):
        Bundle.open(path)


def test_a_certificate_is_of_tests(tmp_path):
    path = cascade(tmp_path)
    bundle = Bundle.open(path)
    replace_entry(bundle, certified(bundle))

    def edit(document):
        first, second, _ = document["configurations"]
        second["certificate"] = first.pop("certificate")

    edit_json(path / "manifest.json", edit)
    with pytest.raises(FormatError, match=r"'mid': has a 'certificate', but no test"):
        Bundle.open(path)


def edited(tmp_path, *changes):
    path = cascade(tmp_path)
    for change in changes:
        edit_json(path / "manifest.json", change)
    return Bundle.open(path).manifest


def test_the_only_one_with_several_exits_is_taken(tmp_path):
    assert configuration_of(edited(tmp_path), None).name == "full"
    assert configuration_of(edited(tmp_path / "again"), "full").name == "full"


FIRST = ("configurations", 0, "route", 0)


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ((), "fast", "'fast': no configuration with several exits. Available: 'full'"),
        (
            (set_value(*FIRST, "test", "scores", value={}),
             set_value(*FIRST, "test", "stages", value=[0] * 9 + [1])),
            None,
            "stage 0 is not tested by scores of its answer",
        ),
    ],
)  # fmt: skip
def test_what_no_policy_can_be_solved_for(tmp_path, changes, name, message):
    with pytest.raises(PolicyError, match=message):
        configuration_of(edited(tmp_path, *changes), name)


def test_samples_that_go_on_together_are_refused(tmp_path):
    batch = (Dimension("N", 2, 2, 4),)
    images, logits = (replace(spec, shape=("N", *spec.shape[1:])) for spec in (IMAGES, LOGITS))
    path = write_bundle(
        tmp_path / "b.skipc", inputs=[images], outputs=[logits], dimensions=batch
    )
    make_cascade(path / "manifest.json", "full", ["fast", "full"], "logits")
    with pytest.raises(PolicyError, match="takes 2 samples at least, which go on together"):
        configuration_of(Bundle.open(path).manifest, None)


def test_a_bundle_without_exits_and_one_with_two(tmp_path):
    plain = Bundle.open(write_bundle(tmp_path / "plain.skipc")).manifest
    with pytest.raises(PolicyError, match="no configuration of 'plain' has several exits"):
        configuration_of(plain, None)
    path = cascade(tmp_path)
    make_cascade(path / "manifest.json", "mid", ["fast", "mid"], "logits")
    with pytest.raises(PolicyError, match="2 configurations have several exits: full, mid"):
        configuration_of(Bundle.open(path).manifest, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("all", "it has no configuration 'full'"),
        ("full", "its 'full' has 0 tests, the bundle's 1"),
    ],
)
def test_a_front_must_be_the_bundles(tmp_path, name, message):
    entry = Bundle.open(cascade(tmp_path)).manifest.configuration("full")
    front = tmp_path / "front.json"
    front.write_text(
        f'{{"format": "skipc.front/2", "configurations": [{{"name": "{name}"}}]}}'
    )
    with pytest.raises(PolicyError, match=message):
        check_front(front, entry)

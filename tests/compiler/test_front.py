"""``front.json``: what is accepted, what is refused, and the schema that says the same."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipc.compiler.axes.precision import Precision, PrecisionOffer
from skipc.compiler.axes.units import Unit, Units
from skipc.compiler.configurations import configurations_from_front
from skipc.compiler.errors import FrontError
from skipc.compiler.front import (
    Front,
    FrontEntry,
    read_front,
    write_front,
)

EXAMPLES = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

FULL = {"name": "full", "skip": []}
SCHEMA = json.loads((files("skipc.compiler") / "front.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
UNITS = tuple(
    Unit(name, f"add_{i}", 0, module, 10, 100)
    for i, (name, module) in enumerate(
        [
            ("layer1.0", "layer1.0"),
            ("layer1.1", "layer1.1"),
            ("layer2.0.attention", "layer2.0"),
            ("layer2.0.mlp", "layer2.0"),
            ("layer10.0", "layer10.0"),
        ]
    )
)


def document(*configurations: object, **more: object) -> dict[str, object]:
    return {"format": "skipc.front/2", "configurations": list(configurations), **more}


def first(*configurations: object, **more: object) -> dict[str, object]:
    """Returns a document of the first version, which people have written by hand."""
    return {"format": "skipc.front/1", "configurations": list(configurations), **more}


def write(path, value):
    (path / "front.json").write_text(json.dumps(value))
    return path / "front.json"


def exits(**test: object) -> dict[str, object]:
    """Returns an entry with an exit and its test."""
    return {"name": "a", "exits": ["layer1.0", "end"], "tests": [test]}


VALID = [
    document(exits(threshold=-70.0, scores={"value": -1}, output="sure")),
    document(FULL),
    document(FULL, {"name": "fast", "skip": ["layer1.0"], "metrics": {"latency_ms": 4.5}}),
    document({"name": "a", "skip": "00110", "metrics": {"accuracy": 1, "anything_j": -2}}),
    document({"name": "a" * 64, "skip": []}, options={"skip": ["layer1.0"]}),
    document({"name": "0.5-x_Y", "skip": ["", "anything"]}, options={}),
    document({"name": "a", "skip": [], "metrics": {}}),
    document({"name": "a"}, {"name": "b", "precision": "fp16"}),
    document({"name": "a", "precision": "int8-dynamic", "float32": ["head", "layer1"]}),
    document({"name": "a", "skip": "01", "precision": "bf16"}, norm="full", statistics=None),
    document({"name": "a", "exits": ["end"]}, {"name": "b", "exits": ["layer1.0"]}),
    document(
        {
            "name": "a",
            "exits": ["layer1.0", "end"],
            "tests": [
                {"threshold": 0.5, "scores": {"margin": 1, "entropy": -2}, "temperature": 2}
            ],
            "stops": [0.25, 0.75],
        }
    ),
    first(FULL, {"name": "fast", "skip": "0110"}, units=["layer1.0"]),
]

INVALID = [
    ([], "expected an object"),
    ({}, "the key 'format' is missing"),
    ({"format": "skipc.front/2"}, "the key 'configurations' is missing"),
    (document(), "'configurations' is empty"),
    ({**document(FULL), "format": "skipc.front/3"}, "this skipc reads 'skipc.front/2'"),
    ({**document(FULL), "format": 1}, "'format' is 1; this skipc reads"),
    (first(FULL, unitz=[]), "unknown key 'unitz'. Did you mean 'units'"),
    (first(FULL, units="layer1.0"), "must be a list of strings"),
    (document("full"), r"configurations\[0\]: expected an object"),
    (first(FULL, {"name": "a"}), r"configurations\[1\].* 'skip' is missing"),
    (first({**FULL, "precision": "fp16"}), "unknown key 'precision'"),
    (first(FULL, options={}), "unknown key 'options'"),
    (document(FULL, units=[]), "unknown key 'units'"),
    (document(FULL, options={"skip": "x"}), "'skip' must be a list"),
    (document({**FULL, "precision": "fp8"}), "'precision' is 'fp8'. Did you mean"),
    (document({**FULL, "precision": ["fp16"]}), "'precision' is"),
    (document({**FULL, "float32": "head"}), "'float32' is 'head'; expected a list of layers"),
    (document({**FULL, "float32": [""]}), "'float32' is"),
    (document({"skip": []}), "the key 'name' is missing"),
    (document({"name": "a", "skips": []}), "Did you mean 'skip'"),
    (document({"name": "", "skip": []}), "'name' must be a non-empty string"),
    (document({"name": 7, "skip": []}), "'name' must be a non-empty string"),
    (document({"name": "../up", "skip": []}), "cannot name files"),
    (document({"name": ".hidden", "skip": []}), "cannot name files"),
    (document({"name": "a b", "skip": []}), "cannot name files"),
    (document({"name": "a\n", "skip": []}), "cannot name files"),
    (document({"name": "é", "skip": []}), "cannot name files"),
    (document({"name": "a" * 65, "skip": []}), "cannot name files"),
    (document({"name": "con", "skip": []}), "cannot name files"),
    (document({"name": "NUL.x", "skip": []}), "cannot name files"),
    (document({"name": "a", "exits": []}), "'exits' must be a list of heads"),
    (document({"name": "a", "exits": "end"}), "'exits' must be a list of heads"),
    (document({"name": "a", "exits": ["x", "x"]}), "'exits' names 'x' twice"),
    (document(exits(threshold="0.5")), "'threshold' must be a number"),
    (document(exits()), "the key 'threshold' is missing"),
    (document(exits(threshold=0.5, scores={})), "'scores' must be of max-softmax"),
    (document(exits(threshold=0.5, scores={"value": 1, "margin": 1})), "of 'value' alone"),
    (document(exits(threshold=0.5, output=3)), "'output'"),
    (document(exits(threshold=0.5, scores={"max": 1})), "scores: unknown key 'max'"),
    (document(exits(threshold=0.5, temperature=0)), "'temperature'"),
    (document({**exits(threshold=0.5), "stops": [0.5, 1.5]}), "'stops"),
    (first({**FULL, "exits": ["end"]}), "unknown key 'exits'"),
    (first({**FULL, "stops": [1]}), "unknown key 'stops'"),
    (document({"name": "a", "skip": "0120"}), "must be a bit string"),
    (document({"name": "a", "skip": ""}), "must be a bit string"),
    (document({"name": "a", "skip": "layer1.0"}), "For names write a list"),
    (document({"name": "a", "skip": None}), "'skip' must be a list of strings"),
    (document({"name": "a", "skip": [1]}), "'skip' must be a list of strings"),
    (document({"name": "a", "skip": ["x", "x"]}), "'skip' names 'x' twice"),
    (document({**FULL, "metrics": {"latency": 3}}), "has no unit. Write 'latency_ms'"),
    (document({**FULL, "metrics": {"energy": 3}}), "has no unit. Write 'energy_mj'"),
    (document({**FULL, "metrics": {"accuracy": 93.5}}), "'accuracy' is a fraction"),
    (document({**FULL, "metrics": {"accuracy": True}}), "'accuracy' must be a number"),
    (document({**FULL, "metrics": {"latency_ms": "3"}}), "'latency_ms' must be a number"),
    (document({**FULL, "metrics": [3]}), "must be an object of numbers"),
]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"name": "a", "exits": ["x", "end"]}, r"0 'tests', but 2 'exits'\. Give one test"),
        ({"name": "a", "tests": [{"threshold": 1}]}, "1 'tests', but 1 'exits'"),
        ({**exits(threshold=1), "stops": [1]}, "'stops' has 1 numbers, but there are 2 exits"),
        ({**exits(threshold=1), "stops": [0.5, 0.4]}, "'stops' sums up to 0.9, expected 1"),
    ],
)
def test_tests_and_shares_are_those_of_the_exits(entry, says, tmp_path):
    with pytest.raises(FrontError, match=says):
        read_front(write(tmp_path, document(entry)))


@pytest.mark.parametrize(
    ("test", "says"),
    [
        (
            {"threshold": 7.0},
            "'threshold' is 7, but the sum of max-softmax with these weights is from 0 to 1",
        ),
        (
            {"threshold": -0.1, "scores": {"entropy": 1.0}},
            "'threshold' is -0.1, but .* from 0 to 1. Write a number",
        ),
        (
            {"threshold": 0.5, "scores": {"entropy": -1.0}},
            r"'threshold' is 0.5, .* from -1 to 0.* or 2 where none is to be answered",
        ),
        (
            {"threshold": 3.5, "scores": {"margin": 3.0, "entropy": -2.0}},
            "'threshold' is 3.5, but the sum of margin, entropy .* from -2 to 3",
        ),
        ({"threshold": 0.9, "jump": {"below": -0.5, "stage": 2}}, "'below' is -0.5, but"),
    ],
)
def test_a_threshold_that_nothing_reaches_is_refused(test, says, tmp_path):
    with pytest.raises(FrontError, match=says):
        read_front(write(tmp_path, document(exits(**test))))


def test_a_threshold_at_the_end_of_what_is_reached_or_never_is_read(tmp_path):
    for threshold in (0.0, 1.0, 2.0):
        read_front(write(tmp_path, document(exits(threshold=threshold))))


@pytest.mark.parametrize("value", VALID)
def test_front_that_is_valid_is_read_and_fits_the_schema(value, tmp_path):
    front = read_front(write(tmp_path, value))
    VALIDATOR.validate(value)
    assert [entry.name for entry in front.configurations] == [
        entry["name"] for entry in value["configurations"]
    ]


@pytest.mark.parametrize(("value", "fragment"), INVALID)
def test_front_that_is_invalid_is_refused_by_reader_and_schema(value, fragment, tmp_path):
    with pytest.raises(FrontError, match=fragment) as raised:
        read_front(write(tmp_path, value))
    assert "front.json" in str(raised.value)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(value)


NAMES = st.sampled_from(["full", "fast", "a", "con", "", "a b", "x" * 65, "0", "-a"])
SKIPS = st.one_of(
    st.lists(st.sampled_from(["layer1.0", "layer2", ""]), max_size=3),
    st.sampled_from(["", "0", "0101", "2", "layer"]),
    st.none(),
)
METRICS = st.dictionaries(
    st.sampled_from(["accuracy", "latency_ms", "latency", "odd"]),
    st.one_of(st.floats(-1, 2), st.booleans(), st.none(), st.integers(0, 1)),
    max_size=2,
)
ENTRIES = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "skip": SKIPS,
        "precision": st.sampled_from(["fp16", "fp32", "half"]),
        "metrics": METRICS,
        "more": st.none(),
    },
)


@given(
    kind=st.sampled_from([document, first]),
    entry=ENTRIES,
    optional=st.sampled_from(
        [{}, {"options": {"skip": ["u"]}}, {"options": {"skip": [1]}}, {"x": 1}]
    ),
)
@EXAMPLES
def test_schema_and_reader_agree(kind, entry, optional, tmp_path):
    value = kind(entry, **optional)
    path = write(tmp_path, value)
    valid = not list(VALIDATOR.iter_errors(value))
    if valid:
        read_front(path)
    else:
        with pytest.raises(FrontError):
            read_front(path)


def test_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"format": 1, "format": 2}', "given twice"),
        ('{"format": NaN}', "'format'"),
    ],
)
def test_front_that_is_no_json_is_refused(text, fragment, tmp_path):
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(FrontError, match=fragment):
        read_front(tmp_path / "front.json")


def test_missing_front_is_refused(tmp_path):
    with pytest.raises(
        FrontError, match=r"cannot be read.* Expected a front, as `skipc select`"
    ):
        read_front(tmp_path / "front.json")


def test_another_file_is_told_to_be_no_front(tmp_path):
    (tmp_path / "ckpt.pt").write_bytes(b"PK\x80")
    with pytest.raises(FrontError, match=r"JSON, which is text in UTF-8\. Expected a front"):
        read_front(tmp_path / "ckpt.pt")


def test_infinite_metric_is_refused(tmp_path):
    text = json.dumps(document({**FULL, "metrics": {"latency_ms": float("inf")}}))
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(FrontError, match="finite number"):
        read_front(tmp_path / "front.json")


@pytest.mark.parametrize(
    ("second", "fragment"),
    [("full", "two configurations are named 'full'"), ("FULL", "but for case")],
)
def test_names_that_would_be_one_file_are_refused(second, fragment, tmp_path):
    path = write(tmp_path, document(FULL, {"name": second, "skip": ["x"]}))
    with pytest.raises(FrontError, match=fragment):
        read_front(path)


def test_too_many_configurations_are_refused(tmp_path):
    entries = [{"name": f"c{i}", "skip": [f"u{i}"]} for i in range(1001)]
    with pytest.raises(FrontError, match="1001 configurations, more than the 1000"):
        read_front(write(tmp_path, document(*entries)))


ENTRY = st.builds(
    FrontEntry,
    st.from_regex(r"x[a-z0-9._-]{0,20}", fullmatch=True),
    st.fixed_dictionaries(
        {},
        optional={
            "skip": st.one_of(
                st.lists(st.text(min_size=1, max_size=8), max_size=4, unique=True),
                st.from_regex(r"[01]{1,8}", fullmatch=True),
            ),
            "precision": st.sampled_from(["fp16", "bf16"]),
        },
    ),
    st.dictionaries(
        st.from_regex(r"[a-z]{1,5}_ms", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
)
FRONTS = st.builds(
    Front,
    st.lists(ENTRY, min_size=1, max_size=4, unique_by=lambda entry: entry.name).map(tuple),
    st.dictionaries(
        st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3).map(tuple), max_size=2
    ),
)


@given(front=FRONTS)
@EXAMPLES
def test_front_is_read_as_it_was_written(front, tmp_path):
    path = tmp_path / "front.json"
    write_front(path, front)
    assert read_front(path) == front
    VALIDATOR.validate(json.loads(path.read_text()))
    assert [file.name for file in tmp_path.iterdir()] == ["front.json"]


def test_writer_refuses_what_the_reader_would(tmp_path):
    with pytest.raises(FrontError, match="cannot name files"):
        write_front(tmp_path / "front.json", Front((FrontEntry("a b"),)))
    assert not list(tmp_path.iterdir())


OFFERS = {"skip": Units(UNITS, (), 50, 500), "precision": PrecisionOffer()}


def entry(name: str, skip: object) -> FrontEntry:
    return FrontEntry(name, {"skip": list(skip) if isinstance(skip, tuple) else skip})


def resolve(*entries: FrontEntry, units: tuple[str, ...] = ()):
    front = Front(entries, {"skip": units} if units else {})
    found = configurations_from_front(front, {"": OFFERS}, "front.json")
    parts = [configuration.parts[0] for configuration in found]
    return [tuple(unit.name for unit in part.choices["skip"]) for part in parts]


@pytest.mark.parametrize(
    ("skip", "names"),
    [
        ((), ()),
        (("layer1.1", "layer1.0"), ("layer1.0", "layer1.1")),
        (("layer1",), ("layer1.0", "layer1.1")),
        (("layer2.0",), ("layer2.0.attention", "layer2.0.mlp")),
        (("layer2", "layer2.0.mlp"), ("layer2.0.attention", "layer2.0.mlp")),
        (("layer10",), ("layer10.0",)),
        ("00000", ()),
        ("10010", ("layer1.0", "layer2.0.mlp")),
        ("11111", tuple(unit.name for unit in UNITS)),
    ],
)
def test_paths_and_bits_name_units_in_network_order(skip, names):
    assert resolve(entry("a", skip)) == [names]


@pytest.mark.parametrize(
    ("entries", "fragment"),
    [
        (
            [entry("a", ("layer1.0", "layer1.7"))],
            "'a': 'layer1.7' is no unit. Did you mean",
        ),
        ([entry("a", ("layer1.0", ""))], "'' is no unit"),
        ([entry("a", "0101")], "has 4 bits, but the network has 5 units"),
        ([entry("a", "010101")], "has 6 bits, but the network has 5 units"),
        ([entry("a", ("stem",))], "front of another network"),
        ([entry("a", ("l1.0", "l1.1")), entry("b", ("l2",))], "another network"),
        (
            [entry("a", "10000"), entry("b", ("layer1.0",))],
            r"'a' and 'b' choose the same \(skip: layer1.0\)",
        ),
        ([entry("a", ()), entry("b", "00000")], r"choose the same \(nothing\)"),
    ],
)
def test_entry_that_does_not_fit_the_network_is_refused(entries, fragment):
    with pytest.raises(FrontError, match=fragment) as raised:
        resolve(*entries)
    assert "front.json" in str(raised.value)


def test_front_that_lists_other_units_is_refused():
    with pytest.raises(
        FrontError,
        match=r"made for another network: of the axis 'skip' it lists 1 options \('x'\)",
    ):
        resolve(entry("a", ()), units=("x",))


def test_front_that_lists_these_units_is_accepted():
    assert resolve(entry("a", ()), units=tuple(u.name for u in UNITS)) == [()]


def test_axis_that_is_not_named_is_left_alone():
    front = Front((FrontEntry("a"), FrontEntry("b", {"precision": "fp16"})))
    plain, half = configurations_from_front(front, {"": OFFERS}, "front.json")
    assert plain.parts[0].choices == {}
    assert half.parts[0].choices == {"precision": Precision.FP16}


def test_to_skip_nothing_is_to_choose_nothing():
    with pytest.raises(FrontError, match="'a' and 'b' choose the same"):
        configurations_from_front(
            Front((FrontEntry("a"), entry("b", ()))), {"": OFFERS}, "front.json"
        )

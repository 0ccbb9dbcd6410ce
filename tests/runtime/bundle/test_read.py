"""Documents are read by the annotations of their dataclasses, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime.bundle.constraints import (
    Above,
    AtLeast,
    AtMost,
    Below,
    Count,
    Distinct,
    KeysOf,
    NotEmpty,
    OneOf,
    Positive,
    RelativePath,
    Sha256,
    Text,
)
from skipc.runtime.bundle.records import read, written
from skipc.runtime.errors import (
    BudgetError,
    BundleError,
    FormatError,
    IntegrityError,
    SkipcError,
    VersionError,
)

HASH = "0123456789abcdef" * 4


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Range:
    EXAMPLE: ClassVar[str] = '{"low": 1, "high": 2}'

    low: int
    high: int

    def check(self, where: str) -> None:
        if self.low > self.high:
            raise FormatError(f"{where}: low {self.low} is above high {self.high}.")


@dataclass(frozen=True, slots=True)
class Grant:
    watts: float | None = None
    twice: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.watts is not None and self.watts <= 0:
            raise BudgetError(f"watts={self.watts:g} is not above zero.")


@dataclass(frozen=True, slots=True)
class Everything:
    FORMAT: ClassVar[str] = "skipc.everything/2"

    name: str
    note: Text
    count: int
    threads: Count
    level: Annotated[int, AtLeast(2), AtMost(5)]
    share: Annotated[float, AtLeast(0), Below(1)]
    factor: Annotated[float, Above(1)]
    took_ms: Positive
    exact: bool
    anything: object
    perhaps: int | None
    shape: Annotated[tuple[Count | str, ...], NotEmpty()]
    skip: Annotated[tuple[Text, ...], Distinct()]
    either: tuple[str, ...] | str
    numbers: Mapping[str, float]
    peaks: Annotated[Mapping[str, int], KeysOf(("fp16", "fp32"))]
    mode: Literal["shared", "full"]
    colour: Colour
    dtype: Annotated[str, OneOf(("float16", "float32"))]
    file: Annotated[Text, RelativePath()]
    sha256: Annotated[str, Sha256()]
    range: Range | None
    ranges: Annotated[tuple[Range, ...], Distinct("low")]
    grant: Grant = field(default_factory=Grant)
    last: int = 7


VALID: dict[str, object] = {
    "format": "skipc.everything/2",
    "name": "a",
    "note": "",
    "count": 0,
    "threads": 1,
    "level": 2,
    "share": 0,
    "factor": 1.5,
    "took_ms": 0.5,
    "exact": False,
    "anything": [None, {"x": 1}],
    "perhaps": None,
    "shape": ["N", 3],
    "skip": ["", "layer1"],
    "either": "01",
    "numbers": {"accuracy": 1},
    "peaks": {"fp16": 2},
    "mode": "full",
    "colour": "blue",
    "dtype": "float32",
    "file": "a/b.onnx",
    "sha256": HASH,
    "range": {"low": 1, "high": 2},
    "ranges": [{"low": 1, "high": 2}, {"low": 2, "high": 2}],
}


def test_every_kind_is_read() -> None:
    found = read(Everything, VALID, "here")
    assert (found.share, found.numbers) == (0.0, {"accuracy": 1.0})
    assert isinstance(found.share, float)
    assert isinstance(found.numbers["accuracy"], float)
    assert (found.shape, found.skip) == (("N", 3), ("", "layer1"))
    assert (found.colour, found.mode) == (Colour.BLUE, "full")
    assert (found.range, found.ranges[1]) == (Range(1, 2), Range(2, 2))
    assert (found.grant, found.last) == (Grant(), 7)
    assert read(Everything, VALID | {"either": ["0", "1"]}, "here").either == ("0", "1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nmae": 1}, "here: unknown key 'nmae'. Did you mean 'name'? Available: "),
        ({"name": ""}, "here: 'name' must be a non-empty string, found ''."),
        ({"name": None}, "here: 'name' must be a non-empty string, found None."),
        ({"note": 1}, "here: 'note' must be a string, found 1."),
        ({"count": -1}, "'count' must be a whole number of at least 0, found -1."),
        ({"count": 1.0}, "'count' must be a whole number, found 1.0."),
        ({"count": True}, "'count' must be a whole number, found True."),
        ({"count": 2**63}, "'count' must be a whole number below 2^63"),
        ({"threads": -1}, "'threads' must be a whole number of at least 1, found -1."),
        ({"level": 6}, "'level' must be a whole number of at most 5, found 6."),
        ({"share": True}, "'share' must be a number, found True."),
        ({"share": float("nan")}, "'share' must be a finite number, found nan."),
        ({"share": 10**400}, "'share' must be a number that a float can hold"),
        ({"share": -0.1}, "'share' must be a number of at least 0, found -0.1."),
        ({"share": 1}, "'share' must be a number below 1, found 1.0."),
        ({"factor": 1}, "'factor' must be a number above 1, found 1.0."),
        ({"took_ms": 0}, "'took_ms' must be a number above zero, found 0.0."),
        ({"exact": 1}, "'exact' must be true or false, found 1."),
        ({"perhaps": "1"}, "'perhaps' must be a whole number, found '1'."),
        ({"shape": "N"}, "'shape' must be a list, found 'N'."),
        ({"shape": []}, "'shape' is empty, expected at least one entry."),
        ({"shape": [1, 0]}, "'shape[1]' must be a whole number of at least 1, found 0."),
        ({"shape": [""]}, "'shape[0]' must be a non-empty string"),
        ({"shape": [None]}, "'shape[0]' must be a whole number, found None."),
        ({"skip": "x"}, "'skip' must be a list of strings, found 'x'."),
        ({"skip": ["x", 1]}, "'skip' must be a list of strings, found ['x', 1]."),
        ({"skip": ["x", "x"]}, "'skip' names 'x' twice. Remove one."),
        ({"either": None}, "'either' must be a list of strings, found None."),
        ({"either": ["x", ""]}, "'either[1]' must be a non-empty string, found ''."),
        ({"numbers": [1]}, "'numbers' must be an object of numbers, found [1]."),
        ({"numbers": {"a": "1"}}, "here: numbers: 'a' must be a number, found '1'."),
        ({"peaks": {"fp61": 1}}, "here: peaks: unknown key 'fp61'. Did you mean 'fp16'?"),
        ({"mode": "ful"}, "here: 'mode' is 'ful'. Did you mean 'full'? Available: "),
        ({"mode": 1}, "'mode' must be a non-empty string, found 1."),
        ({"colour": "rot"}, "'colour' is 'rot'. Available: 'blue', 'red'."),
        ({"dtype": "float23"}, "'dtype' is 'float23'. Did you mean 'float32'?"),
        ({"sha256": "abc"}, "'sha256' must be 64 hexadecimal digits in lower case"),
        ({"range": 3}, 'here: range: expected an object, found 3. Write {"low": 1'),
        ({"range": {"low": 2}}, "here: range: the key 'high' is missing."),
        ({"range": {"low": 2, "high": 1}}, "here: range: low 2 is above high 1."),
        ({"ranges": {}}, "'ranges' must be a list, found {}."),
        ({"ranges": [1]}, "here: ranges[0]: expected an object, found 1."),
        ({"ranges": [{"low": "", "high": 1}]}, "here: ranges[0]: 'low' must be a whole"),
        ({"ranges": [{"low": 1, "high": 1}] * 2}, "here: ranges: the low 1 is given twice."),
        ({"grant": {"watts": -1}}, "here: grant: watts=-1 is not above zero."),
        ({"grant": {"twice": 1}}, "here: grant: unknown key 'twice'."),
        ({"format": "skipc.nothing/2"}, "'format' must be 'skipc.everything/2', found 'skip"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(changes: dict[str, object], told: str) -> None:
    with pytest.raises(FormatError) as error:
        read(Everything, VALID | changes, "here")
    assert told in str(error.value)


def test_a_missing_key_is_told_unless_it_has_a_default() -> None:
    for key in VALID:
        with pytest.raises(FormatError, match=f"'{key}' (is missing|must be)"):
            read(Everything, {k: v for k, v in VALID.items() if k != key}, "here")


def test_a_path_out_and_another_version_have_errors_of_their_own() -> None:
    with pytest.raises(IntegrityError, match=r"here: 'file': '\.\./x' leads out"):
        read(Everything, VALID | {"file": "../x"}, "here")
    with pytest.raises(VersionError, match=r"format 'skipc\.everything/1'"):
        read(Everything, VALID | {"format": "skipc.everything/1"}, "here")


@pytest.mark.parametrize(
    "changes", [{"count": -1}, {"file": "../x"}, {"format": "skipc.everything/1"}]
)
def test_the_error_is_the_one_that_was_asked_for(changes: dict[str, object]) -> None:
    class MineError(SkipcError):
        pass

    with pytest.raises(MineError, match="here: "):
        read(Everything, VALID | changes, "here", MineError)


def test_a_type_that_no_document_has_is_a_mistake_of_the_program() -> None:
    @dataclass(frozen=True)
    class Wrong:
        pair: set

    with pytest.raises(TypeError, match=r"set.* cannot be read from a document"):
        read(Wrong, {"pair": []}, "here")


NAMES = st.text(min_size=1, max_size=5)
NATURAL = st.integers(0, 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
RANGES = st.tuples(NATURAL, NATURAL).map(lambda pair: Range(min(pair), max(pair)))
DOCUMENTS = st.builds(
    Everything,
    name=NAMES,
    note=st.text(max_size=5),
    count=NATURAL,
    threads=st.integers(1, 9),
    level=st.integers(2, 5),
    share=st.floats(0, 1, exclude_max=True),
    factor=st.floats(1, 1e300, exclude_min=True),
    took_ms=st.floats(0, 1e300, exclude_min=True),
    exact=st.booleans(),
    anything=st.none() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    perhaps=st.none() | NATURAL,
    shape=st.lists(st.integers(1, 9) | NAMES, min_size=1, max_size=3).map(tuple),
    skip=st.lists(st.text(max_size=3), unique=True, max_size=3).map(tuple),
    either=NAMES | st.lists(NAMES, max_size=3).map(tuple),
    numbers=st.dictionaries(st.text(max_size=3), FINITE, max_size=3),
    peaks=st.dictionaries(st.sampled_from(["fp16", "fp32"]), NATURAL),
    mode=st.sampled_from(["shared", "full"]),
    colour=st.sampled_from(Colour),
    dtype=st.sampled_from(["float16", "float32"]),
    file=st.sampled_from(["", "a", "a/b"]),
    sha256=st.just(HASH),
    range=st.none() | RANGES,
    ranges=st.lists(RANGES, max_size=3, unique_by=lambda each: each.low).map(tuple),
    grant=st.builds(Grant, watts=st.none() | st.floats(1, 9)),
    last=NATURAL,
)


def _as_json(document: Everything) -> dict[str, object]:
    value = json.loads(json.dumps(written(document)))
    del value["grant"]["twice"]  # is computed when the class is made
    return value


@given(DOCUMENTS)
def test_what_is_written_is_read(document: Everything) -> None:
    value = _as_json(document)
    assert next(iter(value)) == "format"
    assert read(Everything, value, "here") == document


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
) | st.sampled_from(["x" * 2000, [["x"] * 30] * 30])


def _places(value: object, prefix: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The path to every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((*prefix, key))
        if isinstance(inner, (dict, list)):
            found += _places(inner, (*prefix, key))
    return found


@given(DOCUMENTS, st.data(), JSON_VALUES, st.sampled_from(["set", "add", "remove"]))
def test_any_change_is_read_or_refused_in_few_words(document, data, other, action) -> None:
    value = _as_json(document)
    *parents, last = data.draw(st.sampled_from(_places(value)))
    place = value
    for key in parents:
        place = place[key]
    if action == "remove":
        del place[last]
    elif action == "set" or isinstance(place, list):
        place[last] = other
    else:
        place[data.draw(st.text(max_size=5) | st.just("x" * 2000))] = other
    try:
        found = read(Everything, value, "here")
    except BundleError as error:
        assert len(str(error)) < 600  # noqa: PT017 - or it is read, which is fine, too
        return
    assert read(Everything, _as_json(found), "again") == found


@given(JSON_VALUES)
def test_any_other_value_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="'format' must be"):
        read(Everything, value, "here")
    with pytest.raises(FormatError, match=r"expected an object|unknown key|is missing"):
        read(Range, value, "here")

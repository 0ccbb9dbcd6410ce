from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.profiles import (
    Board,
    Detection,
    LatencyTable,
    Number,
    Profile,
    ProfileError,
    Software,
    load_profile,
    profile_names,
)

ROOT = Path(__file__).parents[2]
MINE = """format = "skipc.profile/1"
name = "mine"
backend = "tensorrt"
description = "my board"
"""
BOARD = f"""{MINE}
[[boards]]
name = "first"
module_ids = ["p1-0000"]
rails = ["VDD_IN", "VDD_SOC"]
total_rails = ["VDD_IN"]
memory_gb = {{ value = 8, source = "data sheet" }}
multiprocessors = {{ value = 4, derived = true }}
[boards.peak_tops]
fp16 = {{ value = 2.5, derived = true, source = "10 x 0.25 GHz" }}
"""
TWO = '[[boards]]\nname = "second"\n'


def _load(folder: Path, text: str) -> Profile:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return load_profile(str(file))


def test_four_keys_are_enough(tmp_path: Path) -> None:
    assert _load(tmp_path, MINE) == Profile("mine", "tensorrt", "my board")


def test_every_key_is_read(tmp_path: Path) -> None:
    text = BOARD.replace(
        "[[boards]]",
        'architecture = "aarch64"\ncompute_capabilities = ["8.7", "11.0"]\n'
        'precisions = ["fp16", "int8"]\n'
        '[detect]\ncompatible = ["maker,board"]\nfiles = ["/dev/board"]\nfallback = true\n'
        '[latency]\nbase_ms = 1.5\nunit_ms = { "layer1.0" = 0.5, "b" = 0 }\n'
        '[[software]]\nname = "OS 1"\ncuda = "12.6"\n'
        '[[boards]]\npower_modes = ["15W"]\n'
        'bandwidth_gb_s = { value = 68.3, source = "data sheet" }',
        1,
    )
    board = Board(
        "first",
        module_ids=("p1-0000",),
        memory_gb=Number(8.0, "data sheet", derived=False),
        bandwidth_gb_s=Number(68.3, "data sheet", derived=False),
        peak_tops={"fp16": Number(2.5, "10 x 0.25 GHz", derived=True)},
        multiprocessors=Number(4.0, "", derived=True),
        power_modes=("15W",),
        rails=("VDD_IN", "VDD_SOC"),
        total_rails=("VDD_IN",),
    )
    assert _load(tmp_path, text) == Profile(
        "mine",
        "tensorrt",
        "my board",
        architecture="aarch64",
        compute_capabilities=("8.7", "11.0"),
        precisions=("fp16", "int8"),
        boards=(board,),
        software=(Software("OS 1", cuda="12.6"),),
        detect=Detection(("maker,board",), ("/dev/board",), fallback=True),
        latency=LatencyTable(1.5, {"layer1.0": 0.5, "b": 0.0}),
    )
    assert list(board.numbers()) == [
        *("memory_gb", "bandwidth_gb_s", "multiprocessors", "peak_tops.fp16")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", r"mine\.toml: not valid TOML: Invalid value"),
        ("a = " + "[" * 9999, "not valid TOML"),
        ('name = "mine"', "'format' must be 'skipc.profile/1', found None"),
        (MINE.replace("backend", "backnd"), "unknown key 'backnd'.*Did you mean 'backend'"),
        (MINE.replace('"my board"', "3"), "'description' must be a non-empty string"),
        (
            MINE.replace('"mine"', '"yours"'),
            "'name' is 'yours', but the file is called 'mine'",
        ),
        (
            MINE.replace('"tensorrt"', '"tensort"'),
            "'backend' is 'tensort'.*'tensorrt'",
        ),
        (MINE + 'architecture = "arm"', "'architecture' is 'arm'.*Available: 'aarch64'"),
        (MINE + 'compute_capabilities = ["sm87"]', "'sm87', which is none.*'8.7'"),
        (MINE + "compute_capabilities = [8.7]", "must be a list of strings"),
        (MINE + 'precisions = ["fp61"]', "holds 'fp61'.*'tensorrt'.*Did you mean 'fp16'"),
        (MINE + "precisions = []", "'precisions' is empty. Available: 'bf16', 'fp16'"),
        (MINE + 'precisions = ["fp16", "fp16"]', "names 'fp16' twice"),
        (
            MINE.replace("tensorrt", "onnxruntime-cpu") + 'precisions = ["bf16"]',
            "'bf16', which engines of the backend 'onnxruntime-cpu' cannot have.*'fp32'",
        ),
        (MINE + "boards = 3", "'boards' must be a list, found 3"),
        (MINE + "[[boards]]", r"boards\[0\]: the key 'name' is missing"),
        (BOARD + TWO + "cores = 4", r"boards\[1\]: unknown key 'cores'"),
        (
            BOARD + TWO.replace("second", "first"),
            "boards: the name 'first' is given twice",
        ),
        (BOARD + TWO + 'module_ids = ["p1-0000"]', "'p1-0000', which the board 'first' has"),
        (
            BOARD + TWO + 'rails = [""]',
            r"boards\[1\]: 'rails\[0\]' must be a non-empty string",
        ),
        (
            BOARD.replace('["VDD_IN"]', '["VDD_N"]'),
            r"0\]: 'total_rails' holds 'VDD_N', which is not in 'rails'.*mean 'VDD_IN'",
        ),
        (
            BOARD + TWO + "memory_gb = 64",
            r"boards\[1\]: memory_gb: expected an object, found 64. Write { value = .*where",
        ),
        (BOARD + TWO + "memory_gb = { value = 6 }", "memory_gb: no 'source'.*derived = true"),
        (
            BOARD + TWO + "memory_gb = { value = 6, derived = false }",
            "memory_gb: no 'source'.*derived = true",
        ),
        (BOARD + TWO + "memory_gb = { vale = 6 }", "unknown key 'vale'. Did you mean 'value'"),
        (
            BOARD + TWO + "memory_gb = { value = 6, derived = 1 }",
            "memory_gb: 'derived' must be true or false, found 1",
        ),
        (
            BOARD + TWO + "memory_gb = { value = 6, derived = true, source = '' }",
            "memory_gb: 'source' must be a non-empty string",
        ),
        (
            BOARD + TWO + "bandwidth_gb_s = { value = -1, derived = true }",
            "bandwidth_gb_s: 'value' must be a number above zero, found -1",
        ),
        (
            BOARD + TWO + "bandwidth_gb_s = { value = nan, derived = true }",
            "bandwidth_gb_s: 'value' must be a finite number, found nan",
        ),
        (
            BOARD + TWO + "multiprocessors = { value = 1.5, derived = true }",
            "multiprocessors: 1.5 is not a whole number",
        ),
        (
            BOARD + "fp8 = {value = 3, derived = true}",
            "peak_tops: unknown key 'fp8'. Did you mean 'fp",
        ),
        (BOARD + "int8 = 3", "peak_tops: int8: expected an object, found 3"),
        (MINE + '[[software]]\ncuda = "12"', r"software\[0\]: the key 'name' is missing"),
        (MINE + '[[software]]\nname = "a"\ncuda = 12', r"software\[0\]: 'cuda' must be a"),
        (MINE + '[detect]\nfile = ["/a"]', "detect: unknown key 'file'. Did you mean 'files'"),
        (MINE + '[detect]\nfiles = ["a"]', "'a', which is relative to no folder"),
        (
            MINE + "[latency]\nbase_ms = 0\nunit_ms = {}",
            "'base_ms' must be a number above zero",
        ),
        (
            MINE + "[latency]\nbase_ms = 1\nunit_ms = {a = -1}",
            "unit_ms: 'a' must be a number of at least 0",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        _load(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "mine.toml"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"gone\.toml: cannot be read: No such file"):
        load_profile(str(tmp_path / "gone.toml"))
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ProfileError, match=r"pipe\.toml: not a regular file"):
        load_profile(str(tmp_path / "pipe.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(ProfileError, match=r"bytes\.toml: not valid TOML"):
        load_profile(str(tmp_path / "bytes.toml"))


def test_the_examples_of_the_documentation_load(tmp_path: Path) -> None:
    text = (ROOT / "docs/profiles.md").read_text(encoding="utf-8")
    example = "".join(re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    file = tmp_path / "my-board.toml"
    file.write_text(example, encoding="utf-8")
    profile = load_profile(str(file))
    assert profile.backend == "onnxruntime-cpu"
    assert len(profile.boards[0].numbers()) == 3


def test_the_documentation_names_every_key() -> None:
    text = (ROOT / "docs/profiles.md").read_text(encoding="utf-8")
    keys = [each.name for cls in (Profile, Board, Software, Detection) for each in fields(cls)]
    assert [key for key in keys if not re.search(rf"[`\[.]{key}\b", text)] == []


SHIPPED = [
    (ROOT / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    for name in profile_names()
]


@given(text=st.sampled_from(SHIPPED), place=st.floats(0, 1), word=st.text(max_size=3))
def test_a_damaged_profile_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str, place: float, word: str
) -> None:
    cut = int(place * len(text))
    name = text.split('name = "')[1].split('"')[0]
    file = tmp_path_factory.mktemp("damaged") / f"{name}.toml"
    file.write_text(text[:cut] + word + text[cut + 1 :], encoding="utf-8", newline="")
    boards: tuple[Board, ...] = ()
    told = str(file)
    try:
        boards = load_profile(str(file)).boards
    except ProfileError as cause:
        told = str(cause)
    assert told.startswith(str(file))
    numbers = [number for board in boards for number in board.numbers().values()]
    assert all(number.source or number.derived for number in numbers)

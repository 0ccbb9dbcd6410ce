"""Scores on disk: resumed, torn, damaged, shared by two processes, and a full disk."""

from __future__ import annotations

import json
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from skipc.compiler.axes.axis import Gene
from skipc.compiler.errors import SelectError
from skipc.compiler.select.evaluation_cache import EvaluationCache, EvaluationKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def genes_of(names: str) -> tuple[Gene, ...]:
    return tuple(Gene("skip", name, 2) for name in names)


KEY = EvaluationKey("c" * 64, "d" * 64, "full", "top1", "inverted", genes_of("abc"))
SCORES = {(0, 0, 0): 0.975, (1, 0, 1): 0.5, (1, 1, 1): 0.0}


def refuse(note: str) -> None:
    raise AssertionError(note)


def opened(folder: Path) -> EvaluationCache:
    return EvaluationCache(folder, KEY, refuse)


@pytest.fixture
def filled(tmp_path: Path) -> EvaluationCache:
    cache = opened(tmp_path)
    for genes, score in SCORES.items():
        cache.add(genes, score)
    cache.close()
    return cache


@pytest.fixture
def small_files() -> Iterator[None]:
    """Lets no file grow beyond 1000 bytes, as a full disk would; undone at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_cache_resumes_with_every_score(filled, tmp_path):
    again = opened(tmp_path)
    assert again.path == filled.path
    assert dict(again.scores) == SCORES
    again.close()


def test_cache_says_what_it_is_for_in_its_first_line(filled):
    first, *rest = filled.path.read_text().splitlines()
    said = json.loads(first)
    assert (said["format"], said["norm"], [gene["name"] for gene in said["genes"]]) == (
        "skipc.evaluations/2", "full", ["a", "b", "c"],
    )  # fmt: skip
    assert [json.loads(line)["genes"] for line in rest] == list(map(list, SCORES))


def test_cache_writes_a_score_once(filled, tmp_path):
    size = filled.path.stat().st_size
    again = opened(tmp_path)
    again.add((1, 1, 1), 0.0)
    again.close()
    assert filled.path.stat().st_size == size


def test_cache_has_each_score_on_disk_before_it_is_closed(tmp_path):
    cache = opened(tmp_path)
    cache.add((1, 0, 1), 0.25)
    assert json.loads(cache.path.read_text().splitlines()[-1]) == {
        "genes": [1, 0, 1],
        "score": 0.25,
    }
    cache.close()


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint_sha256": "e" * 64},
        {"data_sha256": "e" * 64},
        {"norm": "scalar"},
        {"metric": "pkg.mod:f"},
        {"residual_scale": "original"},
        {"genes": genes_of("abd")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_cache_of_another_problem_is_another_file(change, filled, tmp_path):
    other = EvaluationCache(tmp_path, replace(KEY, **change), refuse)
    assert other.path != filled.path
    assert not other.scores
    other.close()


def test_cache_ignores_a_line_cut_anywhere_and_goes_on_behind_it(filled, tmp_path):
    whole = filled.path.read_bytes()
    for cut in range(len(whole)):
        filled.path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        cache = opened(tmp_path)
        assert list(cache.scores.items()) == list(SCORES.items())[: max(kept - 1, 0)]
        for genes, score in SCORES.items():
            cache.add(genes, score)
        cache.close()
        again = opened(tmp_path)
        assert dict(again.scores) == SCORES
        again.close()


def test_cache_survives_a_second_crash_while_a_torn_line_is_closed(filled, tmp_path):
    filled.path.write_bytes(filled.path.read_bytes()[:-4] + b"#to")
    cache = opened(tmp_path)
    assert dict(cache.scores) == dict(list(SCORES.items())[:2])
    cache.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "not valid JSON"),
        ("", "not valid JSON"),
        ("[1, 2]", "expected an object"),
        ("[" * 100_000, "not valid JSON"),
        ('{"genes": [0, 1, 0]}', "the key 'score' is missing"),
        ('{"genes": [0, 1, 0], "score": 1.0, "more": 1}', "unknown key 'more'"),
        ('{"genes": [0, 1], "score": 1.0}', "each of 3 decisions"),
        ('{"genes": [0, 1, 2], "score": 1.0}', "each of 3 decisions"),
        ('{"genes": "010", "score": 1.0}', "'genes' must be a list of whole numbers"),
        ('{"genes": [0, -1, 0], "score": 1.0}', "'genes.1.' must be a whole number of at"),
        ('{"genes": [0, 1, 0], "score": NaN}', "finite number"),
        ('{"genes": [0, 1, 0], "score": "1"}', "must be a number"),
        ('{"genes": [0, 1, 0], "score": 1e999}', "finite number"),
        ('{"genes": [0, 1, 0], "score": true}', "must be a number"),
    ],
)
def test_cache_with_a_damaged_line_is_refused(line, said, filled, tmp_path):
    lines = filled.path.read_text().splitlines()
    lines[2] = line
    filled.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SelectError, match=said) as caught:
        opened(tmp_path)
    assert f"{filled.path}: line 3" in str(caught.value)
    assert "delete it" in str(caught.value)


def test_cache_with_bytes_that_are_no_text_is_refused(filled, tmp_path):
    filled.path.write_bytes(filled.path.read_bytes() + b"\xff\xfe\x00\n")
    with pytest.raises(SelectError, match="line 5: not valid JSON"):
        opened(tmp_path)


def test_cache_for_something_else_under_its_name_is_refused(filled, tmp_path):
    rest = filled.path.read_bytes().split(b"\n", 1)[1]
    filled.path.write_bytes(replace(KEY, norm="scalar").line() + rest)
    with pytest.raises(SelectError, match="line 1 does not say what"):
        opened(tmp_path)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_cache_takes_finite_scores_only(score, tmp_path):
    cache = opened(tmp_path)
    before = cache.path.read_bytes()
    cache.add((1, 1, 1), score)
    assert cache.path.read_bytes() == before
    assert not cache.scores
    cache.close()


def test_full_disk_ends_caching_with_one_note_and_keeps_the_scores(tmp_path, small_files):
    notes: list[str] = []
    key = replace(KEY, genes=genes_of("abcdefgh"))
    cache = EvaluationCache(tmp_path, key, notes.append)
    every = [tuple(n >> i & 1 for i in range(8)) for n in range(40)]
    for genes in every:
        cache.add(genes, 0.5)
    assert len(notes) == 1
    assert "can no longer be cached" in notes[0]
    assert str(cache.path) in notes[0]
    assert list(cache.scores) == every
    # What fitted is there for the next search; the line that did not fit is ignored.
    fitted = cache.path.read_bytes().count(b"\n") - 1
    assert 0 < fitted < 40
    more: list[str] = []
    again = EvaluationCache(tmp_path, key, more.append)
    assert list(again.scores) == every[:fitted]
    again.close()


def test_folder_that_cannot_be_made_is_a_note(tmp_path):
    (tmp_path / "file").write_text("")
    notes: list[str] = []
    cache = EvaluationCache(tmp_path / "file" / "cache", KEY, notes.append)
    cache.add((1, 1, 1), 0.5)
    assert len(notes) == 1
    assert "--cache" in notes[0]
    assert cache.scores == {(1, 1, 1): 0.5}


def append_some(folder: Path, start: int) -> None:
    cache = EvaluationCache(folder, replace(KEY, genes=genes_of("0123456789")), refuse)
    for number in range(start, 400, 2):
        cache.add(tuple(number >> i & 1 for i in range(10)), number / 8)
    cache.close()


def test_two_processes_append_to_one_cache(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(append_some, tmp_path, start) for start in (0, 1)]:
            done.result()
    cache = EvaluationCache(tmp_path, replace(KEY, genes=genes_of("0123456789")), refuse)
    assert sorted(cache.scores.values()) == [number / 8 for number in range(400)]
    cache.close()
    assert os.listdir(tmp_path) == [cache.path.name]

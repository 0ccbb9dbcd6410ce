"""Scores on disk: resumed, damaged, shared by two processes, and a full disk."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from skipc.compiler.errors import SelectError
from skipc.compiler.select.evaluation_cache import EvaluationCache
from tests.compiler.select.appending import KEY, TEN, append_some, genes_of, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SCORES = {(0, 0, 0): 0.975, (1, 0, 1): 0.5, (1, 1, 1): 0.0}


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
    """Lets no file grow beyond five pages, as a full disk would; undone at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * 4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_cache_resumes_with_every_score(filled, tmp_path):
    again = opened(tmp_path)
    assert again.path == filled.path
    assert dict(again.scores) == SCORES
    again.close()


def rows(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall()


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)


def test_cache_says_what_it_is_for(filled):
    ((key,),) = rows(filled.path, "problem")
    said = json.loads(key)
    assert (said["format"], said["norm"], [gene["name"] for gene in said["genes"]]) == (
        "skipc.evaluations/3", "full", ["a", "b", "c"],
    )  # fmt: skip
    assert rows(filled.path, "scores") == [("0,0,0", 0.975), ("1,0,1", 0.5), ("1,1,1", 0.0)]


def test_cache_writes_a_score_once(filled, tmp_path):
    size = filled.path.stat().st_size
    again = opened(tmp_path)
    again.add((1, 1, 1), 0.0)
    again.close()
    assert filled.path.stat().st_size == size


def test_cache_has_each_score_on_disk_before_it_is_closed(tmp_path):
    cache = opened(tmp_path)
    cache.add((1, 0, 1), 0.25)
    assert rows(cache.path, "scores") == [("1,0,1", 0.25)]
    cache.close()


@pytest.mark.parametrize(
    "other",
    [
        {"checkpoint_sha256": "e" * 64},
        {"data_sha256": "e" * 64},
        {"norm": "scalar"},
        {"metric": "pkg.mod:f"},
        {"residual_scale": "original"},
        {"genes": genes_of("abd")},
    ],
    ids=lambda other: next(iter(other)),
)
def test_cache_of_another_problem_is_another_file(other, filled, tmp_path):
    cache = EvaluationCache(tmp_path, replace(KEY, **other), refuse)
    assert cache.path != filled.path
    assert not cache.scores
    cache.close()


@pytest.mark.parametrize(
    ("genes", "score", "said"),
    [
        ("0,1", 1.0, "each of 3 decisions"),
        ("0,1,2", 1.0, "each of 3 decisions"),
        ("0,-1,0", 1.0, "each of 3 decisions"),
        ("010", 1.0, "each of 3 decisions"),
        (b"\xff\xfe", 1.0, "each of 3 decisions"),
        (None, 1.0, "each of 3 decisions"),
        ("0,1,0", None, "no finite number"),
        ("0,1,0", float("inf"), "no finite number"),
        ("0,1,0", "much", "no finite number"),
    ],
)
def test_cache_with_a_damaged_row_is_refused(genes, score, said, filled, tmp_path):
    change(filled.path, "INSERT INTO scores VALUES (?, ?)", genes, score)
    with pytest.raises(SelectError, match=said) as caught:
        opened(tmp_path)
    assert str(filled.path) in str(caught.value)
    assert "delete it" in str(caught.value)


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(4080)])
def test_file_that_is_no_database_is_refused(content, filled, tmp_path):
    filled.path.write_bytes(content)
    with pytest.raises(SelectError, match=r"database.*delete it"):
        opened(tmp_path)


def test_cache_that_ends_early_is_refused(filled, tmp_path):
    filled.path.write_bytes(filled.path.read_bytes()[: 2 * 4096])
    with pytest.raises(SelectError, match=r"malformed.*delete it"):
        opened(tmp_path)


def test_cache_for_something_else_under_its_name_is_refused(filled, tmp_path):
    change(filled.path, "UPDATE problem SET key = ?", replace(KEY, norm="scalar").text)
    with pytest.raises(SelectError, match="the scores of something else"):
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
    every = [tuple(n >> i & 1 for i in range(8)) for n in range(256)]
    for genes in every:
        cache.add(genes, 0.5)
    assert len(notes) == 1
    assert "can no longer be cached" in notes[0]
    assert str(cache.path) in notes[0]
    assert list(cache.scores) == every
    # What fitted is there for the next search.
    kept = [score for _, score in rows(cache.path, "scores")]
    assert 0 < len(kept) < 256
    more: list[str] = []
    again = EvaluationCache(tmp_path, key, more.append)
    assert list(again.scores) == every[: len(kept)]
    again.close()


def test_folder_that_cannot_be_made_is_a_note(tmp_path):
    (tmp_path / "file").write_text("")
    notes: list[str] = []
    cache = EvaluationCache(tmp_path / "file" / "cache", KEY, notes.append)
    cache.add((1, 1, 1), 0.5)
    assert len(notes) == 1
    assert "--cache" in notes[0]
    assert cache.scores == {(1, 1, 1): 0.5}


def test_two_processes_append_to_one_cache(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(append_some, tmp_path, start) for start in (0, 1)]:
            done.result()
    cache = EvaluationCache(tmp_path, TEN, refuse)
    assert sorted(cache.scores.values()) == [number / 8 for number in range(400)]
    cache.close()
    assert not (set(os.listdir(tmp_path)) - {cache.path.name, f"{cache.path.name}-journal"})

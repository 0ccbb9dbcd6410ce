"""The folder of exports: what is in it is whole, the user's own, and bounded."""

from __future__ import annotations

import os
import threading

import pytest

from skipc.compiler.read.export_cache import ExportCache

KEY = "a" * 64
OTHER = "b" * 64


@pytest.fixture
def notes():
    return []


@pytest.fixture
def cache(tmp_path, notes):
    return ExportCache(tmp_path / "exports", notes.append, limit_bytes=100)


def saving(data):
    return lambda folder: (folder / "data").write_bytes(data)


def load(folder):
    return (folder / "data").read_bytes()


def test_an_entry_is_read_as_it_was_written(cache, tmp_path, notes):
    assert cache.read(KEY, load) is None
    cache.write(KEY, saving(b"data"))
    assert cache.read(KEY, load) == b"data"
    assert cache.read(OTHER, load) is None
    assert (tmp_path / "exports").stat().st_mode & 0o777 == 0o700
    assert notes == []


def test_an_entry_may_be_written_twice(cache):
    cache.write(KEY, saving(b"data"))
    cache.write(KEY, saving(b"data"))
    assert cache.read(KEY, load) == b"data"
    assert [path.name for path in cache._folder.iterdir()] == [KEY]


def test_an_entry_appears_whole_or_not_at_all(cache, notes):
    def half(folder):
        (folder / "data").write_bytes(b"da")
        raise OSError("no space left on device")

    cache.write(KEY, half)
    assert list(cache._folder.iterdir()) == []
    assert "The export is not cached" in notes[0]
    assert "no space left on device" in notes[0]

    def stopped(folder):
        (folder / "data").write_bytes(b"da")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write(KEY, stopped)
    assert list(cache._folder.iterdir()) == []


def changed(entry):
    (entry / "data").write_bytes(b"atad")


def shortened(entry):
    (entry / "data").write_bytes(b"")


def with_another(entry):
    (entry / "more").write_bytes(b"")


def without_list(entry):
    (entry / "files.json").unlink()


def with_broken_list(entry):
    (entry / "files.json").write_text('{"format": "skipc.export-files/1"')


def of_another_format(entry):
    (entry / "files.json").write_text('{"format": "skipc.export-files/2"}')


def linked(entry):
    target = entry.parent.parent / "data"
    (entry / "data").rename(target)
    (entry / "data").symlink_to(target)


def moved(entry):
    (entry / "deep").mkdir()
    (entry / "data").rename(entry / "deep" / "data")


def renamed(entry):
    target = entry.with_name(OTHER)
    entry.rename(target)
    target.rename(entry)
    text = (entry / "files.json").read_text().replace(KEY, OTHER)
    (entry / "files.json").write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        *(changed, shortened, with_another, without_list, with_broken_list),
        *(of_another_format, linked, moved, renamed),
    ],
)
def test_what_is_not_as_it_was_written_is_thrown_away(cache, notes, damage):
    cache.write(KEY, saving(b"data"))
    damage(cache._folder / KEY)
    assert cache.read(KEY, load) is None
    assert "thrown away and exported again" in notes[0]
    assert not (cache._folder / KEY).exists()
    cache.write(KEY, saving(b"data"))
    assert cache.read(KEY, load) == b"data"


def test_what_cannot_be_loaded_is_thrown_away(cache, notes):
    def fails(folder):
        raise RuntimeError("no protobuf")

    cache.write(KEY, saving(b"data"))
    assert cache.read(KEY, fails) is None
    assert "no protobuf" in notes[0]
    assert not (cache._folder / KEY).exists()


def test_the_entries_used_longest_ago_leave(tmp_path):
    cache = ExportCache(tmp_path / "exports", print, limit_bytes=100_000)
    for number, key in enumerate("abc"):
        cache.write(key * 64, saving(b"." * 30_000))
        os.utime(cache._folder / (key * 64), (number, number))
    assert cache.read("a" * 64, load)  # used now
    cache.write("d" * 64, saving(b"." * 30_000))
    assert sorted(path.name[0] for path in cache._folder.iterdir()) == ["a", "c", "d"]


def test_what_is_larger_than_the_cache_is_not_kept(cache, notes):
    cache.write(KEY, saving(b"." * 101))
    assert cache.read(KEY, load) is None
    assert "101 bytes" in notes[0]
    assert "may hold 100" in notes[0]


def test_what_a_crash_left_is_removed_after_a_day(cache):
    cache.write(KEY, saving(b"data"))
    old, new = cache._folder / ".old.tmp", cache._folder / ".new.tmp"
    old.mkdir()
    new.mkdir()
    os.utime(old, (0, 0))
    cache.write(OTHER, saving(b"data"))
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_may_write_into_is_refused(cache, notes, mode):
    cache.write(KEY, saving(b"data"))
    cache._folder.chmod(mode)
    assert cache.read(KEY, load) is None
    cache.write(OTHER, saving(b"data"))
    assert "others may write into" in notes[0]
    assert [path.name for path in cache._folder.iterdir()] == [KEY]


def test_a_folder_of_somebody_else_is_refused(cache, notes, monkeypatch):
    cache.write(KEY, saving(b"data"))
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert cache.read(KEY, load) is None
    cache.write(OTHER, saving(b"data"))
    assert "belongs to somebody else" in notes[0]


def test_a_link_is_refused(cache, notes, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "exports").symlink_to(tmp_path / "elsewhere")
    cache.write(KEY, saving(b"data"))
    assert "is no folder" in notes[0]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_several_may_write_and_read_at_once(cache, notes):
    wrong = []

    def work():
        for _ in range(20):
            cache.write(KEY, saving(b"data"))
            if cache.read(KEY, load) not in (b"data", None):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cache.write(KEY, saving(b"data"))
    assert cache.read(KEY, load) == b"data"
    assert not wrong

from __future__ import annotations

import gc
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from skipc.compiler.select import selecting
from skipc.compiler.targets import latency
from skipc.compiler.targets.cpu import probe
from tests.command_line import hide_tests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer

# Whether this is one of several processes that share the tests (pytest-xdist).
_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ

# What takes seconds to make and is kept in its own process only, and who imports it.
_SHARED = {
    "zoo": r"from tests\.zoo import[^)]*?\bexported\b|\bzoo_files\b"
    r"|from tests\.\S*norm_nets import",
    "sources": r"from tests\.policy\.sources import",
}

# A busy machine is no failure; reproducible, so that a commit cannot fail by another's luck.
settings.register_profile(
    "skipc", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("skipc")


class _ByWhatIsShared(LoadFileScheduling):
    """Keeps in one process the tests of a file, and of the files that share something."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _sharing().get(file, file)


@cache
def _sharing() -> dict[str, str]:
    """Returns what a file shares with others, by the file."""
    tests = Path(__file__).parent
    return {
        file.relative_to(tests.parent).as_posix(): what
        for file in tests.rglob("test_*.py")
        for what, how in _SHARED.items()
        if re.search(how, file.read_text("utf-8"))
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts first what takes longest, so that no process ends long after the others."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/compiler", "tests/tools")))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """Returns how the tests are shared among several processes: in the order given above."""
    config.option.loadscopereorder = False
    return _ByWhatIsShared(config, log)


@pytest.fixture
def no_tests_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the imported tests: each counts as code of the user's, which a key is made of."""
    hide_tests(monkeypatch)


@pytest.fixture(autouse=True, scope="session")
def rare_collections() -> None:
    """Leaves what the imports made out of garbage collections, and makes these seldom.

    An export makes many objects and no garbage: it takes a tenth less without.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def brief_measurements() -> Iterator[None]:
    """Does what takes as long as it may in a moment: no test looks at how long.

    Few calls are measured, and no search is compared with everything that it left out.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_MAX_CALLS", 4)
        patch.setattr(latency, "_MAX_PASSES", 3)
        patch.setattr(probe, "_MAX_PAIRS", 9)
        patch.setattr(selecting, "_COMPARING_S", -1.0)
        yield


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the commands' caches out of the user's folders, and the user's out of tests.

    The processes of one run share theirs.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if _SEVERAL else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield

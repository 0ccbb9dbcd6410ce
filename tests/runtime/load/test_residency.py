from __future__ import annotations

import gc
import sys
import threading
import traceback
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime.backends.cuda import DeviceMemoryError
from skipc.runtime.errors import BackendError, ChoiceError, ClosedError, EngineError
from skipc.runtime.load.residency import Residency, ResidencyCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIZES = {"full": 40, "mid": 30, "fast": 10, "next": 40}


class Item:
    def __init__(self, device: Device, name: str) -> None:
        self.device, self.name, self.closed, self.used = device, name, False, False

    def run(self, inputs: object) -> dict[str, NDArray[np.float64]]:
        assert not self.closed
        assert inputs == {}
        return {self.name: np.zeros(1)}

    def close(self) -> None:
        assert not self.closed, f"{self.name} closed twice"
        assert not self.used, f"{self.name} closed while in use"
        self.closed = True
        self.device.held -= SIZES[self.name]


class Device:
    """Loads items; ``capacity`` is what really fits, whatever the limit says."""

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity, self.held, self.largest = capacity, 0, 0
        self.broken: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def load(self, name: str) -> Item:
        assert self.gate.wait(10)
        if name in self.broken:
            raise EngineError(f"{name} is broken")
        if self.held + SIZES[name] > self.capacity:
            raise DeviceMemoryError(f"no room for {name}")
        self.held += SIZES[name]
        self.largest = max(self.largest, self.held)
        return Item(self, name)


def residency(
    device: Device, limit_bytes: int | None = None, keep: str | None = None
) -> Residency[Item]:
    return Residency(device.load, SIZES, limit_bytes, keep)


class Use:
    """Has an engine in use while the block lasts."""

    def __init__(self, held: Residency[Item], name: str) -> None:
        self.held, self.name = held, name

    def __enter__(self) -> Item:
        self.frame = sys._getframe(1)
        return self.held._take(self.name, self.frame)

    def __exit__(self, *_: object) -> None:
        self.held._uses.leave(self.frame)


def touch(held: Residency[Item], *names: str) -> None:
    for name in names:
        with Use(held, name) as item:
            assert item.name == name
            assert not item.closed


def until(happened: Callable[[], bool]) -> None:
    for _ in range(1000):
        if happened():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never happened")


def waits(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return any(each.name == "_alone" for each in traceback.extract_stack(frame))


def wait_until_ready(held: Residency[Item], name: str) -> None:
    until(lambda: held.ready(name))


def test_everything_stays_without_a_limit() -> None:
    device = Device()
    held = residency(device)
    touch(held, "full", "mid", "fast", "full")
    assert held.resident == ("mid", "fast", "full")
    assert held.counts == ResidencyCounts(loads=3, evictions=0, waits=3)
    held.close()
    assert device.held == 0


def test_what_runs_a_graph_is_its_engine_where_all_of_them_stay() -> None:
    held = residency(Device())
    for name in SIZES:
        assert not held.all_stay
        held.load(name)
    assert held.all_stay
    items = {name: Use(held, name) for name in SIZES}
    for name, run in held.runs().items():
        with items[name] as item:
            assert run == item.run
    held.close()


def test_where_not_all_stay_a_graph_is_loaded_when_it_runs() -> None:
    held = residency(Device(), limit_bytes=50)
    for name in ("full", "fast"):
        held.load(name)
    runs = held.runs()
    for name in SIZES:
        assert list(runs[name]({})) == [name]
        assert held.ready(name)
    assert held.counts.evictions > 0
    held.close()


def test_load_ahead_is_no_wait() -> None:
    held = residency(Device())
    held.load("fast")
    touch(held, "fast")
    assert held.counts == ResidencyCounts(loads=1)
    held.close()


def test_the_least_recently_used_leaves_first_and_the_kept_one_last() -> None:
    device = Device()
    held = residency(device, limit_bytes=50, keep="fast")
    touch(held, "fast", "mid", "full")
    assert held.resident == ("fast", "full")
    touch(held, "mid")
    assert held.resident == ("fast", "mid")
    held.close()


def test_limit_below_one_engine_is_refused_by_name() -> None:
    with pytest.raises(
        ChoiceError, match=r"device_bytes=39: the engine of .*'full'.* 40 bytes"
    ):
        residency(Device(), limit_bytes=39)


def test_a_full_device_makes_the_oldest_leave_until_it_fits() -> None:
    device = Device(capacity=70)
    held = residency(device)
    touch(held, "mid", "fast", "full")
    assert held.resident == ("fast", "full")
    held.close()


def test_out_of_memory_leaves_what_is_in_use_alone() -> None:
    device = Device(capacity=45)
    held = residency(device)
    with Use(held, "mid") as item:
        item.used = True
        with pytest.raises(
            BackendError, match=r"'full': no device memory left.*no room for full"
        ):
            held.load("full")
        assert not item.closed
        item.used = False
    touch(held, "mid")
    held.close()


def test_prepare_loads_in_the_background() -> None:
    device = Device()
    held = residency(device)
    touch(held, "fast")
    assert held.prepare("full") == {"fast"}
    wait_until_ready(held, "full")
    touch(held, "full")
    assert held.counts == ResidencyCounts(loads=2, waits=1)
    held.close()


def test_prepare_does_not_send_away_what_was_used_last() -> None:
    device = Device()
    held = residency(device, limit_bytes=60)
    touch(held, "mid", "fast", "full")
    assert held.prepare("mid") == frozenset()  # 40 + 30 is too much
    assert held.prepare("fast") == {"full", "fast"}
    assert held.resident[-1] == "full"
    held.close()


def test_prepare_keeps_what_there_is_room_for_and_the_kept_one_first() -> None:
    device = Device()
    held = residency(device, 95, keep="fast")
    touch(held, "fast", "full", "mid")
    assert held.prepare("next") == {"fast", "mid"}
    assert not held.ready("full")
    wait_until_ready(held, "next")
    held.close()
    assert device.largest <= 95


def test_use_waits_for_a_load_that_is_on_its_way() -> None:
    device = Device()
    held = residency(device)
    touch(held, "fast")
    device.gate.clear()
    assert held.prepare("full") == {"fast"}
    found = []
    thread = threading.Thread(target=lambda: found.append(touch(held, "full")))
    thread.start()
    assert not held.ready("full")
    until(lambda: waits(thread))
    device.gate.set()
    thread.join(10)
    assert held.counts == ResidencyCounts(loads=2, waits=2)
    held.close()


def test_nothing_is_prepared_where_nothing_is_at_hand() -> None:
    held = residency(Device())
    assert held.prepare("full") == frozenset()
    assert held.resident == ()
    held.close()


def test_a_failure_in_the_background_is_raised_by_the_next_use() -> None:
    device = Device()
    device.broken.add("full")
    held = residency(device)
    touch(held, "fast")
    held.prepare("full")
    for _ in range(1000):
        if not held.prepare("full"):
            break
        threading.Event().wait(0.005)
    assert not held.prepare("full")
    with pytest.raises(EngineError, match="full is broken"):
        touch(held, "full")
    device.broken.clear()
    touch(held, "full")
    assert held.prepare("full") == {"fast", "full"}
    held.close()


def test_close_waits_for_uses_and_refuses_later_ones() -> None:
    device = Device()
    held = residency(device)
    inside, leave = threading.Event(), threading.Event()

    def use() -> None:
        with Use(held, "mid") as item:
            item.used = True
            inside.set()
            assert leave.wait(10)
            item.used = False

    user = threading.Thread(target=use)
    user.start()
    assert inside.wait(10)
    closer = threading.Thread(target=held.close)
    closer.start()
    assert device.held == SIZES["mid"]
    leave.set()
    closer.join(10)
    user.join(10)
    assert device.held == 0
    with pytest.raises(ClosedError):
        touch(held, "mid")
    assert not held.prepare("mid")


@given(
    limit=st.one_of(st.none(), st.integers(40, 90)),
    capacity=st.integers(40, 90),
    keep=st.sampled_from([None, *SIZES]),
    steps=st.lists(st.tuples(st.sampled_from(["use", "prepare"]), st.sampled_from([*SIZES]))),
)
def test_any_order_keeps_within_limit_and_device(
    limit: int | None, capacity: int, keep: str | None, steps: list[tuple[str, str]]
) -> None:
    device = Device(capacity)
    held = residency(device, limit, keep)
    for kind, name in steps:
        if kind == "use":
            touch(held, name)
            assert name in held.resident
        else:
            held.prepare(name)
    held.close()
    assert device.largest <= min(capacity, limit or capacity)
    assert device.held == 0


def test_many_threads_use_few_places() -> None:
    device = Device(capacity=50)
    held = residency(device, limit_bytes=50)
    failures: list[BaseException] = []

    def use(seed: int) -> None:
        try:
            for index in range(60):
                touch(held, [*SIZES][(seed + index * (seed + 1)) % 3])
                held.prepare([*SIZES][(seed + index) % 3])
        except BaseException as cause:
            failures.append(cause)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    held.close()
    assert device.held == 0
    assert device.largest <= 50


def test_any_error_in_the_background_leaves_the_worker_alive() -> None:
    device = Device()
    held = residency(device)
    touch(held, "fast")
    load = device.load

    def broken(name: str) -> Item:
        if name == "mid":
            raise FileNotFoundError(name)
        return load(name)

    held._load = broken  # type: ignore[method-assign]
    assert held.prepare("mid") == {"fast"}
    for _ in range(1000):
        if not held.prepare("mid"):
            break
        threading.Event().wait(0.005)
    assert held.prepare("full") == {"fast"}
    wait_until_ready(held, "full")
    with pytest.raises(FileNotFoundError):
        touch(held, "mid")
    held.close()


def test_an_engine_that_did_not_fit_is_not_held_by_its_error() -> None:
    device = Device(capacity=75)
    alive: list[weakref.ref[Item]] = []
    load = device.load

    def late(name: str) -> Item:
        """Takes its memory first and finds only then that more is missing."""
        item = load(name)
        alive.append(weakref.ref(item))
        if name == "next" and "full" in held.resident:
            item.close()
            raise DeviceMemoryError("no room for its context")
        return item

    held = Residency(late, SIZES, None, None)
    touch(held, "fast", "full")
    gc.disable()
    try:
        touch(held, "next")
        assert [item().name for item in alive if item() is not None] == ["next"]
    finally:
        gc.enable()
    held.close()


def test_what_the_device_could_not_hold_is_tried_again_later() -> None:
    device = Device(capacity=45)
    held = residency(device)
    touch(held, "full", "mid")
    device.capacity = 1000
    for _ in range(20):
        touch(held, "full", "mid")
    assert set(held.resident) == {"full", "mid"}
    held.close()


def test_one_that_cannot_be_freed_does_not_keep_the_others() -> None:
    device = Device()
    held = residency(device)
    touch(held, "full", "fast")
    with Use(held, "full") as item:
        item.close, close = failing, item.close  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="lost"):
        held.close()
    close()
    assert device.held == 0


def test_one_that_cannot_be_freed_does_not_keep_another_from_coming(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = Device()
    held = residency(device, limit_bytes=50)
    touch(held, "mid")
    with Use(held, "mid") as item:
        item.close, close = failing, item.close  # type: ignore[method-assign]
    touch(held, "full")
    assert held.resident == ("full",)
    assert held.counts.evictions == 1
    assert "the engine of graph 'mid' could not be freed" in caplog.text
    close()
    held.close()
    assert device.held == 0


def failing() -> None:
    raise RuntimeError("the device is lost")

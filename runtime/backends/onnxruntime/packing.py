"""Sessions that begin unpacked: their packed ones are loaded in the background, then used.

ONNX Runtime packs matrix products while it loads; without, a session is there sooner, slower
by a tenth, and rounds otherwise.
"""

from __future__ import annotations

import atexit
import logging
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Held:
    """A session, which may be replaced by a better one; None once it is freed.

    ``answered`` is called after its first call.
    """

    session: Any
    answered: Callable[[], None] | None = None


class PackedLater:
    """Replaces sessions by packed ones, one after the other, in a thread of its own.

    Args:
        load: Returns the packed session of a graph.
    """

    def __init__(self, load: Callable[[str], Any]) -> None:
        self._load = load
        self._wanted: Queue[tuple[str, Held] | None] = Queue()
        self._closed = False
        self._thread: Thread | None = None

    def want(self, graph: str, held: Held) -> None:
        """Replaces a session as soon as its turn comes."""
        self._wanted.put((graph, held))
        if self._thread is None:
            self._thread = Thread(target=self._work, name="skipc-pack", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # a library must not be at work when Python ends

    def close(self) -> None:
        """Waits for the session that is being loaded; the others stay as they are."""
        self._closed = True
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join()
            self._thread = None
            atexit.unregister(self.close)

    def wait(self) -> None:
        """Waits until every session that was wanted so far is packed."""
        self._wanted.join()

    def _work(self) -> None:
        while True:
            wanted = self._wanted.get()
            if wanted is not None and not self._closed:
                self._pack(*wanted)
            self._wanted.task_done()
            if wanted is None:
                return

    def _pack(self, graph: str, held: Held) -> None:
        try:
            held.session = self._load(graph)
        except Exception as cause:  # what runs goes on running
            _LOG.warning("graph %r stays unpacked: %s", graph, cause)

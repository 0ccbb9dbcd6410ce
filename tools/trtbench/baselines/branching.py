"""``if``: one session of one graph, in which flags choose the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.extras import require
from skipc.tools.trtbench.baselines.baseline import Loaded
from skipc.tools.trtbench.baselines.plain import SessionRuns, timed_session

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from skipc.runtime.backends import Arrays
    from skipc.tools.trtbench.baselines.baseline import Ground


class FlaggedRuns:
    """A configuration of the graph: its flags set; satisfies ``Runs``."""

    def __init__(self, session: SessionRuns, name: str, flags: NDArray[np.bool_]) -> None:
        self._session = session
        self._flags = {name: flags}

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name."""
        return self._session.run({**inputs, **self._flags})


class Branching:
    """One session for the family, written into the scratch folder; satisfies ``Baseline``.

    Raises:
        BaselineUnavailableError: One graph cannot stand for this family.
        ExtraMissingError: What writes the graph is not installed.
    """

    def __init__(self, ground: Ground) -> None:
        require("onnx_ir", "compiler")
        from skipc.tools.trtbench.baselines.if_graph import (
            branching_units,
            write_if_graph,
        )

        self._threads = ground.threads
        self._skips = {e.name: e.skip for e in ground.bundle.manifest.configurations}
        self._path = ground.scratch / "if.onnx"
        model, self._units = branching_units(ground.bundle)
        write_if_graph(model, self._units, self._path)
        self._session: SessionRuns | None = None

    def load(self, configuration: str) -> Loaded:
        """Returns the configuration; the first one loads the session of all.

        Raises:
            BaselineUnavailableError: ONNX Runtime refuses the graph.
        """
        from skipc.tools.trtbench.baselines.if_graph import FLAGS, flags_of

        load_ms = None
        if self._session is None:
            session, load_ms = timed_session(self._path, self._threads)
            self._session = SessionRuns(session)
        flags = flags_of(self._units, self._skips[configuration])
        return Loaded(FlaggedRuns(self._session, FLAGS, flags), load_ms)

    def close(self) -> None:
        """Does nothing: the session is freed with what holds it."""

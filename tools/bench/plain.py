"""What a user would have otherwise: one graph with ``If`` nodes, kept beside a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.runtime import Bundle
from skipc.tools.trtbench.baselines.if_graph import (
    FLAGS,
    branching_units,
    flags_of,
    write_if_graph,
)
from skipc.tools.trtbench.baselines.plain import plain_session

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.axes.units import Unit
    from skipc.runtime.backends import Arrays


class IfSession:
    """One session over the supernet in which every unit is an ``If`` on a flag."""

    def __init__(self, path: Path, units: tuple[Unit, ...]) -> None:
        self._session = plain_session(path)
        self._units = units

    def run(self, skip: tuple[str, ...], case: Arrays) -> Any:
        """Returns the outputs with the units of these names skipped."""
        return self._session.run(None, {**case, FLAGS: flags_of(self._units, skip)})


def if_session(bundle: Path) -> IfSession:
    """Returns the session, writing ``.if.onnx`` beside the bundle the first time."""
    path = bundle.with_suffix(".if.onnx")
    model, units = branching_units(Bundle.open(bundle))
    if not path.exists():
        write_if_graph(model, units, path)
    return IfSession(path, units)

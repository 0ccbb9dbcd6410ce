"""Executes a notebook's cells as Jupyter does, in this process; returns what they show."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import types
from typing import TYPE_CHECKING, Any
from unittest import mock

import matplotlib as mpl

if TYPE_CHECKING:
    from pathlib import Path


def executed(path: Path, replaced: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns the notebook with the outputs of its cells: what they print and plot.

    Args:
        path: The notebook; what it writes goes to the current folder.
        replaced: Texts of its cells, and what is run instead.

    Raises:
        Exception: Whatever a cell raises.
    """
    mpl.use("agg")
    from matplotlib import pyplot as plt

    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    module = types.ModuleType("__main__")
    cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    main = sys.modules["__main__"]
    sys.modules["__main__"] = module  # what else a cell imports stays
    try:
        for number, cell in enumerate(cells, 1):
            source = "".join(cell["source"])
            for said, instead in (replaced or {}).items():
                source = source.replace(said, instead)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), mock.patch.object(plt, "show"):
                exec(compile(source, f"{path.name}, cell {number}", "exec"), vars(module))
            cell["execution_count"], cell["outputs"] = number, []
            if text := printed.getvalue():
                lines = text.splitlines(keepends=True)
                shown = {"output_type": "stream", "name": "stdout", "text": lines}
                cell["outputs"].append(shown)
            for figure in map(plt.figure, plt.get_fignums()):
                cell["outputs"].append(_picture(figure))
            plt.close("all")
    finally:
        sys.modules["__main__"] = main
    return document


def _picture(figure: Any) -> dict[str, Any]:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80, bbox_inches="tight")
    data = {"image/png": base64.b64encode(drawn.getvalue()).decode()}
    return {"output_type": "display_data", "metadata": {}, "data": data}

"""What ``skipc show`` prints of a target that nothing was measured on yet: the roofline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.profiles import ProfileError, load_profile
from skipc.tools.console import size_text, table

if TYPE_CHECKING:
    from rich.console import Console

    from skipc.compiler.graph.roofline import Roofline
    from skipc.profiles import Board
    from skipc.runtime.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Estimates:
    """The least latency of every graph on one board.

    Attributes:
        board: The board.
        arithmetic: The precision whose peak rate is taken.
        rooflines: By graph.
    """

    board: Board
    arithmetic: str
    rooflines: dict[str, Roofline]


def estimates_of(bundle: Bundle) -> Estimates | None:
    """Returns estimates for the target that ``bundle`` was built for.

    None where its profile has no numbers, it has engines already (they are measured), a
    graph is damaged, or onnx_ir is not installed, which reads the graphs.
    """
    try:
        import onnx_ir as ir
    except ImportError:
        return None
    from skipc.compiler.errors import TargetError
    from skipc.compiler.graph.roofline import estimate
    from skipc.compiler.targets import target_of

    manifest = bundle.manifest
    try:
        profile = load_profile(target_of(bundle, None))
    except ProfileError:
        return None  # a bundle of another version, or altered: `finish` will say so
    if not profile.boards or profile.name in bundle.targets():
        return None
    board, batch = profile.boards[0], manifest.batch.typical if manifest.batch else 1
    arithmetic = manifest.provenance.precision
    if arithmetic == "fp32" and "tf32" in board.peak_tops:
        arithmetic = "tf32"  # what TensorRT computes float32 products in
    try:
        rooflines = {
            graph.name: estimate(ir.load(bundle.file(graph.file)), batch, board, arithmetic)
            for graph in manifest.graphs
        }
    except TargetError:
        return None  # the profile lacks a number
    except Exception:
        return None  # a damaged graph, which `skipc check` names; the parser has many errors
    return Estimates(board, arithmetic, rooflines)


def print_estimates(found: Estimates, target: str, out: Console) -> None:
    """Prints the estimates, marked as such."""
    out.print(f"\nestimate for {target} ({found.board.name})", style="bold")
    out.print(
        f"  The least time that arithmetic ({found.arithmetic}) and memory traffic take at the"
        " board's peak; nothing was measured. `skipc finish` on the device measures.\n",
        soft_wrap=True,
    )
    rows = table("graph", ">at least", ">compute", ">memory", ">traffic", "limit")
    for name, roofline in found.rooflines.items():
        rows.add_row(
            name,
            f"{roofline.latency_ms:.3g} ms",
            f"{roofline.compute_ms:.3g} ms",
            f"{roofline.memory_ms:.3g} ms",
            size_text(roofline.bytes),
            roofline.limit,
        )
    out.print(rows)

"""Building for GPUs that are not here: which of a profile's generations a network runs on."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.compiler.errors import TargetError
from skipc.compiler.targets.tensorrt.network import parse
from skipc.compiler.targets.tensorrt.plan import build_plan

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.targets import Progress
    from skipc.compiler.targets.tensorrt.plan import PlanSettings
    from skipc.runtime.backends.tensorrt.library import Library


def possible_capabilities(
    library: Library, name: str, graph: Path, settings: PlanSettings, note: Progress
) -> tuple[str, ...]:
    """Returns the compute capabilities that the graph can be built for.

    One that cannot would fail the plan for all: TensorRT-RTX has no float32 matrix products
    on 7.5, for one.

    Args:
        library: TensorRT-RTX.
        name: The name of the graph to try, for messages.
        graph: Its file.
        settings: The settings; its capabilities are tried together, then one by one.
        note: Told what is left out, and why.

    Raises:
        TargetError: The graph can be built for none of them.
    """
    together = _failure(library, name, graph, settings)
    if together is None:
        return settings.capabilities
    alone = {
        capability: _failure(
            library, name, graph, replace(settings, capabilities=(capability,))
        )
        for capability in settings.capabilities
    }
    possible = tuple(capability for capability, failed in alone.items() if failed is None)
    if len(possible) == len(alone):
        raise together
    if not possible:
        # What most of them have in common is the cause; the others have one of their own.
        causes = Counter(str(failed) for failed in alone.values())
        raise TargetError(causes.most_common(1)[0][0])
    for capability, failed in alone.items():
        if failed is not None:
            note(
                f"compute capability {capability} is left out: {_brief(str(failed))}. Half"
                " precision (--precision fp16) may include it."
            )
    return possible


def _brief(text: str) -> str:
    """Returns what the library complained of, without where in itself it did."""
    found = re.search(r"\[\w+\.cpp:\d+: \w+\] (.*?)\.? In \w+ at ", text)
    return found[1] if found else text.rstrip(".")


def _failure(
    library: Library, name: str, graph: Path, settings: PlanSettings
) -> TargetError | None:
    try:
        network = parse(library, name, graph)
        build_plan(library, name, network, settings, b"", lambda text: None)
    except TargetError as cause:
        return cause
    return None

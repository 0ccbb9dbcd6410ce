"""What it costs that all configurations share their weights.

What is compared is the same configuration alone in its bundle: there each kernel is one, and
has the channels that the configuration has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from skipc.compiler.front import Front, write_front
from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.tools.bench.harness import Bar, by_turns_ms, ratio, skipc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skipc.compiler.front import FrontEntry

_ROUNDS = 40


def built(folder: Path, name: str, entries: tuple[FrontEntry, ...], *words: object) -> Bundle:
    """Returns the bundle of some configurations of ``ckpt.pt``, built if it is not there."""
    path = folder / f"{name}.skipc"
    if not path.exists():
        front = folder / f"{name}.json"
        write_front(front, Front(entries))
        skipc(
            *("build", folder / "ckpt.pt", "--front", front, "--target", "cpu"),
            *("--out", path, *words),
        )
    return Bundle.open(path)


@dataclass(frozen=True, slots=True)
class Shared:
    """A bundle of several configurations of a network, and bundles of one of them each.

    Attributes:
        network: The network's name.
        together: The bundle of all.
        alone: By configuration, the bundle that has it alone; the first is the largest.
    """

    network: str
    together: Bundle
    alone: Mapping[str, Bundle]

    def over_alone(self, what: str) -> Bar:
        """Returns the bar of the latencies over the same configurations' alone."""
        over = {
            name: self._ratio(self.together, name, bundle, name)
            for name, bundle in self.alone.items()
        }
        listed = ", ".join(f"{name} {each:.3f}" for name, each in over.items())
        return Bar(self.network, what, max(over.values()), 1.01, note=listed)

    def faster(self, what: str, less: str, more: str) -> Bar:
        """Returns the latency of a configuration over another's, which has no limit."""
        value = self._ratio(self.together, less, self.together, more)
        return Bar(self.network, what, value, None)

    def stores(self, what: str, weights: float, packed: float) -> list[Bar]:
        """Returns the bars of the weight store and the packed one over the largest's alone."""
        return [
            Bar(self.network, f"{name} {what}",
                size(self.together) / size(next(iter(self.alone.values()))), limit,
                note=f"{size(self.together) / 1e6:.1f} MB; of three bundles"
                f" {sum(map(size, self.alone.values())) / 1e6:.1f} MB")
            for name, size, limit in (
                ("weights.bin", weights_bytes, weights),
                ("packed store", _packed_bytes, packed),
            )
        ]  # fmt: skip

    def _ratio(self, first: Bundle, one: str, second: Bundle, other: str) -> float:
        return ratio(by_turns_ms(run_of(first, one), run_of(second, other), _ROUNDS))


def run_of(bundle: Bundle, name: str) -> Callable[[], object]:
    """Returns what calls a configuration's engine."""
    (graph,) = bundle.manifest.graphs_of(bundle.manifest.configuration(name))
    engine = open_backend(bundle, bundle.engine_set("cpu"), 1).load(graph.name)
    return partial(engine.run, bundle.golden_inputs()[0])


def weights_bytes(bundle: Bundle) -> int:
    """Returns the size of a bundle's weight store."""
    return sum(tensor.size_bytes for tensor in bundle.manifest.weights)


def _packed_bytes(bundle: Bundle) -> int:
    """Returns the size of the store that a bundle's engines for CPUs share."""
    engines = bundle.engine_set("cpu")
    return next(f.size_bytes for f in engines.files if f.path == engines.packed_file)

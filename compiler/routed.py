"""Configurations that a router chooses: its file checked, its graph written and verified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from skipc.compiler.bundle.files import checkpoint_sha256
from skipc.compiler.errors import RouterError
from skipc.compiler.family import Subnet
from skipc.compiler.graph.costs import parameters
from skipc.compiler.prologue import Place
from skipc.compiler.router import SCORES, Router, check_router, network_of, read_router
from skipc.compiler.routes import GraphPart, graphs_of, routed
from skipc.compiler.verify.sessions import GraphRunner
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle.folder import file_sha256
from skipc.runtime.bundle.manifest import NetworkEntry
from skipc.runtime.bundle.route import Test
from skipc.runtime.bundle.routed import Routed
from skipc.runtime.call.tests import ways_of
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.bundle.writer import BundleWriter
    from skipc.compiler.configurations import Configuration, Part
    from skipc.compiler.front import Front
    from skipc.compiler.prologue import Places
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.route import Stage
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec


@dataclass(frozen=True, slots=True)
class KnownRouter:
    """A router beside a front.

    Attributes:
        path: Its file.
        sha256: The file's hash.
        router: What it holds.
        checkpoints: By network, the hash of what is built.
    """

    path: Path
    sha256: str
    router: Router
    checkpoints: Mapping[str, str]

    def check(
        self, configurations: Sequence[Configuration], inputs: tuple[TensorSpec, ...]
    ) -> None:
        """Raises ``RouterError`` where it was trained for other networks or configurations."""
        check_router(self.router, self.path, self.checkpoints, inputs)
        known = {one.name: one for one in configurations}
        for way in self.router.header.ways:
            if tuple(part.entry for part in known[way.name].parts) != way.parts:
                raise RouterError(
                    f"{self.path}: trained for another {way.name!r} than the front's: it has"
                    " chosen otherwise since. Train it again with `skipc router`."
                )


def known_routers(
    path: Path, front: Front, checkpoints: Mapping[str, Path]
) -> dict[str, KnownRouter]:
    """Returns the routers of a front, by the configurations that have one.

    Args:
        path: The front's file.
        front: What it says.
        checkpoints: The networks' files, by name.

    Raises:
        RouterError: A file is missing, altered or damaged, or names what there is not.
    """
    found: dict[str, KnownRouter] = {}
    names = [one.name for one in front.configurations if one.router is None]
    sha256s = {n: checkpoint_sha256(p) for n, p in checkpoints.items()}
    for entry in front.configurations:
        if entry.router is None:
            continue
        file = path.parent / entry.router.path
        if not file.is_file():
            raise RouterError(
                f"{file}: there is no such file, but {path} says that the router of"
                f" {entry.name!r} is in it. Copy both."
            )
        if file_sha256(file) != entry.router.sha256:
            raise RouterError(
                f"{file}: altered, or the router of another front than {path}: its hash is not"
                " the one given there. Copy both files again, or run `skipc router` again."
            )
        router = read_router(file)
        for name in router.names:
            if name not in names:
                raise RouterError(
                    f"{path}: {entry.name!r}: its router names {name!r}, which is no"
                    f" configuration of the front. {choices_text(name, names)}"
                )
        found[entry.name] = KnownRouter(file, entry.router.sha256, router, sha256s)
    return found


class _Route(NamedTuple):
    """A route as it was written: its parts and stages, and what these give for each case."""

    parts: tuple[Part, ...]
    stages: Sequence[Stage]
    expected: Sequence[Sequence[Case]]


class _Written(NamedTuple):
    """A router that was written: its graph, and its scores for each case."""

    graph: GraphPart
    expected: tuple[Case, ...]


@final
class Routers:
    """Writes configurations that routers choose, each router once."""

    def __init__(
        self,
        writer: BundleWriter,
        cases: list[Case],
        dimensions: tuple[Dimension, ...],
        note: Callable[[str], None],
        places: Places,
    ) -> None:
        self._writer, self._cases, self._dimensions = writer, cases, dimensions
        self._note, self._places = note, places
        self._routes: dict[str, _Route] = {}
        self._written: dict[str, _Written] = {}

    def may_name(
        self,
        configuration: Configuration,
        stages: Sequence[Stage],
        expected: Sequence[Sequence[Case]],
    ) -> None:
        """Takes note of a configuration that was written; see ``BundleWriter``."""
        self._routes[configuration.name] = _Route(configuration.parts, stages, expected)

    def write(self, configuration: Configuration, known: KnownRouter) -> None:
        """Writes a configuration and, the first time, its router."""
        assert configuration.router is not None
        router = known.router
        if known.sha256 not in self._written:
            self._written[known.sha256] = self._router(configuration.name, known)
        written, ways = self._written[known.sha256], [self._routes[n] for n in router.names]
        test = Test(SCORES, stages=(), costs=router.costs, bias=configuration.router.bias)
        expected = [
            [written.expected[case], *(found for way in ways for found in way.expected[case])]
            for case in range(len(self._cases))
        ]
        parts = {id(part): part for way in ways for part in way.parts}
        self._writer.configuration(
            replace(configuration, parts=tuple(parts.values())),
            routed(written.graph, test, [way.stages for way in ways]),
            expected,
            Routed(router.names, router.header.curve),
        )

    def _router(self, configuration: str, known: KnownRouter) -> _Written:
        name, router = f"{configuration}.router", known.router
        (spec,) = (s for s in self._writer.inputs if s.name == router.header.input.name)
        own = network_of(router, self._dimensions, spec.shape[0])
        network = self._places.put(own, Place.FIRST)
        count = parameters(own.model.graph)
        file = self._writer.graph(Subnet(network, count), name)
        verified = verify_subnet(file.file, configuration, network, self._cases)
        self._check_decisions(file.file, router, verified.expected)
        network_name = known.path.stem
        (graph,) = graphs_of(name, network)
        self._writer.add_graphs(network_name, file, (graph,), verified.verification)
        self._writer.add_router(
            NetworkEntry(
                name=network_name,
                checkpoint=known.path.name,
                checkpoint_sha256=known.sha256,
                model=network.description,
                norm="shared",
                axes=(),
            )
        )
        return _Written(graph, verified.expected)

    def _check_decisions(self, file: Path, router: Router, expected: Sequence[Case]) -> None:
        """Notes where the graph sends a sample elsewhere than PyTorch: a tie."""
        test = Test(SCORES, stages=tuple(range(len(router.names))), costs=router.costs)
        runner = GraphRunner(file)
        ties = sum(
            int((ways_of(test, runner.run(case)[SCORES]) != ways_of(test, own[SCORES])).sum())
            for case, own in zip(self._cases, expected, strict=True)
        )
        if ties:
            total = sum(len(np.asarray(own[SCORES])) for own in expected)
            self._note(
                f"{file.stem}: {ties} of {total} inputs lie on the border of two"
                " configurations, and go another way than in PyTorch."
            )

"""The networks of configurations, made, written and verified once each, and their routes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.axes.precision import PrecisionAxis, common_precision
from skipc.compiler.axes.resolution import ResolutionAxis
from skipc.compiler.errors import CompileError
from skipc.compiler.graph.index import constant_outputs, structure
from skipc.compiler.routes import RoutePart, graphs_of, route_of
from skipc.compiler.verify.verify import verify_network, verify_subnet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx_ir as ir

    from skipc.compiler.axes.precision import Precision
    from skipc.compiler.bundle.writer import BundleWriter
    from skipc.compiler.configurations import Configuration, Part
    from skipc.compiler.family import Family
    from skipc.compiler.prologue import Place, Places
    from skipc.compiler.routes import Route
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import TensorSpec

    Note = Callable[[str], None]


class _Made(NamedTuple):
    """A network with its choices made, written and verified.

    ``expected`` is what its reference gives for each case.
    """

    run: RoutePart
    expected: tuple[Case, ...]


class Parts:
    """Makes each network with each of its choices once, whatever configurations run it."""

    def __init__(
        self,
        writer: BundleWriter,
        families: Mapping[str, Family],
        configurations: tuple[Configuration, ...],
        places: Places,
        tolerance: float | None,
        precision: Precision | None,
    ) -> None:
        self._writer = writer
        self._families = families
        self._places = places
        self._tolerance = tolerance
        self._asked = {} if precision is None else {PrecisionAxis.key: precision}
        self._made: dict[object, _Made] = {}
        self._same: dict[object, str] = {}
        self._computes_in: dict[str, set[object]] = {}
        self.notes: dict[str, None] = {}
        # A file is called like the configuration that is that network alone, if there is one.
        self._files: dict[object, str] = {}
        for one in sorted(configurations, key=lambda one: len(one.parts) > 1):
            for number, part in enumerate(one.parts):
                file = f"{one.name}.{number}" if len(one.parts) > 1 else one.name
                self._files.setdefault(self._key(part), file)

    def route(
        self,
        configuration: Configuration,
        outputs: tuple[TensorSpec, ...],
        note: Note,
        behind_router: bool = False,
    ) -> tuple[Route, list[list[Case]]]:
        """Returns how a configuration runs, and what each stage gives for each case."""
        places = self._places.of(len(configuration.parts), behind_router)
        run = [
            self._part(part, place, configuration.name, note)
            for part, place in zip(configuration.parts, places, strict=True)
        ]
        handed = [s.name for s in run[0].run.network.inputs] if behind_router else ()
        route = route_of(configuration.tests, [one.run for one in run], outputs, handed)
        cases = range(len(run[0].expected))
        return route, [[run[n].expected[case] for n in route.parts] for case in cases]

    def _part(self, part: Part, place: Place, configuration: str, note: Note) -> _Made:
        """Returns a part of a configuration, written into the bundle and verified."""
        key, family = (self._key(part), place), self._families[part.network]
        if key in self._made:
            return self._made[key]
        choices = {**self._asked, **part.choices}
        self._computes_in.setdefault(part.network, set()).add(choices.get(PrecisionAxis.key))
        subnet = family.subnet(choices, part.statistics)
        network = self._places.put(subnet.network.tolerating(self._tolerance), place)
        cases, name = self._places.cases(place), self._files[self._key(part)] + place.value
        if network.exact is not None:
            verify_network(configuration, network.exact, cases)
        _refuse_constant(configuration, network.model, family.network.model)
        file = self._writer.graph(replace(subnet, network=network), name)
        verified = verify_subnet(file.file, configuration, network, cases)
        graphs = graphs_of(name, network)
        self._writer.add_graphs(part.network, file, graphs, verified.verification)
        self.notes |= dict.fromkeys(verified.notes)
        gating = network.gating
        settings = () if gating is None else (gating.cap, gating.thresholds)
        size = choices.get(ResolutionAxis.key)
        looks = structure(network.model), settings, size, place
        same = self._same.setdefault(looks, configuration)
        if same != configuration:
            note(
                f"{same!r} and {configuration!r} are the same network: they differ in what"
                " lies within something that both leave out. Remove one of them from the"
                " front."
            )
        self._made[key] = _Made(RoutePart(network, graphs), verified.expected)
        return self._made[key]

    def precision(self, models: Mapping[str, ir.Model]) -> str:
        """Returns what the graphs compute in; ``models`` are the full networks."""
        found = {
            common_precision(models[name], choices)
            for name, choices in self._computes_in.items()
        }
        return found.pop() if len(found) == 1 else "mixed"

    def _key(self, part: Part) -> object:
        """Returns the same for parts that are the same network, statistics included."""
        norms = self._families[part.network].norms.family
        return part.chosen, norms.content(part.statistics)


def _refuse_constant(name: str, model: ir.Model, full: ir.Model) -> None:
    """Refuses a configuration that skips, together, all that an output reads the inputs by."""
    own = {value.name for value in constant_outputs(full.graph)}
    for value in constant_outputs(model.graph):
        if value.name not in own:
            raise CompileError(
                f"configuration {name!r}: its output {value.name!r} is the same whatever goes"
                " in: the units that it skips are, together, all that read the inputs. Let it"
                " keep one of them."
            )

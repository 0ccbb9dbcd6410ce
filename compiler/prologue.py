"""What goes in front of the networks of a family: camera bytes become what these take.

A prologue is a network of its own, and is put in front of theirs last, when all is chosen: no
axis, no data and no policy knows of it. In a route of several networks the first one hands on
what its prologue computed, so that the others need none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.bundle.writer import InFront
from skipc.compiler.camera import IMAGES, bytes_like, camera_network, parse_camera
from skipc.compiler.errors import PrologueError
from skipc.compiler.graph.passes.feed_inputs import feeding
from skipc.compiler.graph.passes.put_before import PutBeforePass, handed_name
from skipc.compiler.network import Feed, Network, Reference
from skipc.compiler.read.graph_inputs import onnx_inputs, settle_inputs
from skipc.compiler.read.noisy import read_noisy
from skipc.compiler.read.sniff import Kind, sniff
from skipc.runtime.bundle.folder import file_sha256
from skipc.runtime.bundle.prologue import PrologueEntry
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.read import Supernet
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.prologue import Draw
    from skipc.runtime.bundle.tensors import TensorSpec

_SUFFIX = ".onnx"


@dataclass(frozen=True, slots=True)
class Prologue:
    """A network whose outputs are what the networks of a family take.

    Attributes:
        text: What it is: its steps, or the name of its file.
        file: That file; None without one.
        network: The network.
        fed: By the family's input, the output that it becomes; others are given as they are.
        inputs: What is given then: its inputs, and those others.
        gives: What it makes, as graphs hand it over.
        draws: The inputs of its own that are drawn at random.
        like: Returns what may be given where the networks take a case; None where that is not
            known.
    """

    text: str
    file: Path | None
    network: Network
    fed: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    gives: tuple[TensorSpec, ...]
    draws: tuple[Draw, ...] = ()
    like: Callable[[Case], Case] | None = None

    @property
    def sha256(self) -> str:
        """The hash of its file; empty without one."""
        return "" if self.file is None else file_sha256(self.file)

    @property
    def in_front(self) -> InFront:
        """What a bundle says of it that holds it in its graphs."""
        return InFront(self.inputs, PrologueEntry(self.text, self.sha256, self.gives))

    def alone(self, network: Network) -> Network:
        """Returns a network behind it."""
        return self._behind(network, handed_on=False)

    def first(self, network: Network) -> Network:
        """Returns a network behind it, which also gives what others begin with."""
        return self._behind(network, handed_on=True)

    def later(self, network: Network) -> Network:
        """Returns a network that takes what another one handed on."""
        feeds = tuple(Feed(name, handed_name(name), None) for name in self.fed)
        inputs = (*self.gives, *self._kept(network))

        def before(case: Case) -> Case:
            return {**case, **{feed.name: feed.read(case) for feed in feeds}}

        return self._after(
            network, feeding(network.model, feeds, inputs), inputs, _Behind, before
        )

    def handed_over(self, case: Case) -> Case:
        """Returns what graphs hand over, of what is given."""
        found = self.network.reference.run([case])[0]
        return {handed_name(name): found[output] for name, output in self.fed.items()}

    def cases_like(self, cases: Sequence[Case]) -> list[Case]:
        """Returns what may be given where the networks take ``cases``.

        Raises:
            PrologueError: That is not known.
        """
        if self.like is None:
            raise PrologueError(
                f"--prologue {self.text}: int8 is verified on data like what it will see, and"
                " that is not known of what goes into this file. Give some with --data."
            )
        return [self.like(case) for case in cases]

    def _behind(self, network: Network, handed_on: bool) -> Network:
        self._check_names(network)
        opset = network.model.graph.opset_imports.get("", 1)
        model = network.model.clone()
        front = at_opset(self.network.model, opset, self.text)
        PutBeforePass(front, self.fed, handed_on)(model)
        inputs = (*self.network.inputs, *self._kept(network))

        def before(case: Case) -> Case:
            found = self.network.reference.run([case])[0]
            return {**case, **{name: found[output] for name, output in self.fed.items()}}

        if not handed_on:
            return self._after(network, model, inputs, _Behind, before)
        behind = partial(_HandingOn, names=tuple(self.fed))
        return replace(
            self._after(network, model, inputs, behind, before), hands_on=self.gives
        )

    def _kept(self, network: Network) -> tuple[TensorSpec, ...]:
        """Returns what a network takes that comes from elsewhere."""
        return tuple(spec for spec in network.inputs if spec.name not in self.fed)

    def _after(
        self,
        network: Network,
        model: ir.Model,
        inputs: tuple[TensorSpec, ...],
        behind: Callable[[Reference, Callable[[Case], Case]], Reference],
        before: Callable[[Case], Case],
    ) -> Network:
        reference = behind(network.reference, before)
        return replace(network, model=model, inputs=inputs, reference=reference, branches=None)

    def _check_names(self, network: Network) -> None:
        graph = network.model.graph
        taken = {str(value.name) for node in graph for value in node.outputs}
        taken |= graph.initializers.keys()
        for spec in self.network.inputs:
            if spec.name in taken:
                raise PrologueError(
                    f"--prologue {self.text}: its input {spec.name!r} has the name of a tensor"
                    " inside of the network. Rename it."
                )


@dataclass(frozen=True)
class _Behind(Reference):
    """The reference of a network, on what is computed before it.

    Attributes:
        network: The network's reference.
        before: Returns its inputs, of what is given.
    """

    network: Reference
    before: Callable[[Case], Case]

    @property
    def name(self) -> str:  # type: ignore[override]
        """What the network's is: what is before it may have been computed elsewhere."""
        return self.network.name

    def run(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the outputs by name for each case."""
        return self.network.run([self.before(case) for case in cases])

    def trace(self, inputs: Case) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields every intermediate tensor by its name in the graph, in order."""
        own = self.before(inputs)
        yield from ((handed_name(name), array) for name, array in own.items())
        yield from self.network.trace(own)


@dataclass(frozen=True)
class _HandingOn(_Behind):
    """The same, which also gives what was computed before.

    Attributes:
        names: The inputs that were.
    """

    names: tuple[str, ...] = ()

    def run(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the outputs by name for each case."""
        given = [self.before(case) for case in cases]
        return [
            {**found, **{handed_name(name): own[name] for name in self.names}}
            for own, found in zip(given, self.network.run(given), strict=True)
        ]


class Place(Enum):
    """Where in a route a network stands, as far as a prologue is concerned."""

    ALONE = ""
    FIRST = ".first"
    LATER = ".later"


class Places:
    """Puts networks behind a prologue, each in its place; without one they stay."""

    def __init__(self, prologue: Prologue | None, cases: list[Case]) -> None:
        self._prologue, self._cases = prologue, cases
        self.handed: list[Case] = []
        """For each case what is handed over; empty until something takes it."""

    def of(self, parts: int, behind_router: bool) -> list[Place]:
        """Returns the places of the networks of a route."""
        if self._prologue is None or (parts == 1 and not behind_router):
            return [Place.ALONE] * parts
        first = Place.LATER if behind_router else Place.FIRST
        return [first, *[Place.LATER] * (parts - 1)]

    def put(self, network: Network, place: Place) -> Network:
        """Returns a network in its place."""
        if self._prologue is None:
            return network
        put = {
            Place.ALONE: self._prologue.alone,
            Place.FIRST: self._prologue.first,
            Place.LATER: self._prologue.later,
        }[place]
        exact = network.exact
        return replace(put(network), exact=None if exact is None else put(exact))

    def cases(self, place: Place) -> list[Case]:
        """Returns what to verify on in a place."""
        if self._prologue is None or place is not Place.LATER:
            return self._cases
        if not self.handed:
            self.handed = [self._prologue.handed_over(case) for case in self._cases]
        both = zip(self._cases, self.handed, strict=True)
        return [{**case, **handed} for case, handed in both]


def check_text(text: str) -> None:
    """Checks what can be told of ``--prologue`` before anything is read.

    Raises:
        PrologueError: There is no such file, or no such step.
    """
    path = Path(text)
    if path.suffix != _SUFFIX:
        parse_camera(text)
    elif not path.is_file():
        raise PrologueError(f"--prologue {text}: there is no such file.")


def read_prologue(text: str, supernet: Supernet, apart: bool) -> Prologue:
    """Returns the prologue that a text names: a file, or steps of ours.

    Args:
        text: ``--prologue``.
        supernet: The network that takes what all of the family take.
        apart: Whether it is to be apart, so that it may draw numbers.

    Raises:
        PrologueError: It does not fit what the network takes.
        CheckpointError: The file is damaged, or leaves a size open.
        SupernetError: Its graph cannot be used.
    """
    inputs, dimensions = supernet.inputs, supernet.dimensions
    draws: tuple[Draw, ...] = ()
    like, path = None, Path(text)
    if path.suffix == _SUFFIX:
        network, draws = _from_file(path, supernet)
        fed = _fed(text, network, inputs)
        if draws and not apart:
            raise PrologueError(
                f"--prologue {text}: draws random numbers, and so would all that is computed"
                " from it. Keep it apart, on the client's side, with --prologue-apart."
            )
    else:
        camera = parse_camera(text)
        network = camera_network(camera, text, inputs, dimensions)
        (name,) = (spec.name for spec in network.inputs)
        fed = {name: IMAGES}
        like = partial(bytes_like, camera, name)
    wanted = {spec.name: spec for spec in inputs}
    for name, output in fed.items():
        given = next(spec for spec in network.outputs if spec.name == output)
        if (given.dtype, given.shape) != (wanted[name].dtype, wanted[name].shape):
            raise PrologueError(
                f"--prologue {text}: gives {output!r} as {given.kind}, but the network takes"
                f" {name!r} as {wanted[name].kind}."
            )
    kept = tuple(spec for spec in inputs if spec.name not in fed)
    both = {spec.name for spec in kept} & {spec.name for spec in network.inputs}
    if both:
        raise PrologueError(
            f"--prologue {text}: its input {min(both)!r} is one of the network's, too, which"
            " it does not make. Rename one of them."
        )
    gives = tuple(replace(wanted[name], name=handed_name(name)) for name in fed)
    front = (*network.inputs, *kept)
    if like is not None:
        return Prologue(text, None, network, fed, front, gives, like=like)
    return Prologue(path.name, path, network, fed, front, gives, draws)


def _fed(text: str, network: Network, inputs: tuple[TensorSpec, ...]) -> dict[str, str]:
    if len(network.outputs) == len(inputs) == 1:
        return {inputs[0].name: network.outputs[0].name}
    names = {spec.name for spec in inputs}
    for spec in network.outputs:
        if spec.name not in names:
            raise PrologueError(
                f"--prologue {text}: gives {spec.name!r}, which the network does not take."
                f" {choices_text(spec.name, names)}"
            )
    return {spec.name: spec.name for spec in network.outputs}


def _from_file(path: Path, supernet: Supernet) -> tuple[Network, tuple[Draw, ...]]:
    if sniff(path) is not Kind.ONNX:
        raise PrologueError(f"--prologue {path}: is no ONNX file.")
    lead = supernet.inputs[0].shape[:1]
    # An open first size is that of the network's samples.
    given = tuple(
        replace(spec, shape=(*lead, *spec.shape[1:]))
        for spec in onnx_inputs(path)
        if spec.shape and not isinstance(spec.shape[0], int)
    )
    free = supernet.dimensions
    inputs = settle_inputs(onnx_inputs(path), given, free, f"--prologue {path}")
    named = {size for spec in inputs for size in spec.shape}
    return read_noisy(path, inputs, tuple(each for each in free if each.name in named))


def at_opset(model: ir.Model, version: int, text: str) -> ir.Model:
    """Returns a graph in another version of ONNX's operators.

    Raises:
        PrologueError: It has no form in that version.
    """
    import onnx
    import onnx_ir as ir
    from onnx.version_converter import convert_version

    own = model.graph.opset_imports.get("", version)
    used = {node.op_type for node in model.graph.all_nodes() if not node.domain}
    since = (
        {op: onnx.defs.get_schema(op, v).since_version for op in used} for v in (own, version)
    )
    first, then = since
    if first == then:
        return model
    try:
        converted = convert_version(ir.to_proto(model), version)
        made: ir.Model = ir.from_proto(onnx.shape_inference.infer_shapes(converted))
    # The converter raises what it likes.
    except Exception as cause:
        raise PrologueError(
            f"--prologue {text}: is written in ONNX opset {own}, the network in {version}, and"
            f" it cannot be converted: {cause}. Export it with opset {version}."
        ) from cause
    return made

"""Writing the portable bundle: graphs, weight store, golden data, manifest."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import onnx_ir as ir

from skipc.compiler.bundle.array_files import write_arrays
from skipc.compiler.bundle.files import (
    check_writable,
    checkpoint_sha256,
    file_entries,
    write_json,
    write_whole,
)
from skipc.compiler.bundle.weights import INLINE_BELOW_BYTES, WeightStoreWriter
from skipc.compiler.errors import CompileError, SupernetError, no_folder_text
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.graph.index import inner_nodes
from skipc.compiler.routes import stops_of
from skipc.runtime.bundle.folder import MANIFEST_FILE
from skipc.runtime.bundle.manifest import (
    ConfigurationEntry,
    GraphEntry,
    Manifest,
    NetworkEntry,
    Provenance,
)
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.route import golden_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.configurations import Configuration
    from skipc.compiler.family import Family, Subnet
    from skipc.compiler.routes import GraphPart
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.manifest import Recipe, Verification
    from skipc.runtime.bundle.prologue import PrologueEntry
    from skipc.runtime.bundle.route import Stage
    from skipc.runtime.bundle.routed import Routed
    from skipc.runtime.bundle.tensors import TensorSpec

BUNDLE_SUFFIX = ".skipc"
WEIGHTS_FILE = "weights.bin"
GOLDEN_INPUTS_FILE = "golden/inputs.npz"
GOLDEN_PROLOGUE_FILE = "golden/prologue.npz"
MAX_GOLDEN_CASES = 2


@dataclass(frozen=True, slots=True)
class WrittenGraph:
    """A graph that is on disk.

    Attributes:
        name: Its name.
        file: Its file.
        tensors: Hashes of the stored tensors that it uses, by the initializer's name.
        macs: Multiply-accumulate operations of one inference.
        parameters: Its parameters.
    """

    name: str
    file: Path
    tensors: Mapping[str, str]
    macs: int
    parameters: int

    def piece(self, part: GraphPart) -> WrittenGraph:
        """Returns a graph of a route that lies in this one's file."""
        if part.piece is None:
            return self
        nodes = part.piece.nodes
        read = {str(v.name) for node in nodes for v in node.inputs if v is not None}
        inner = (one for node in nodes for one in inner_nodes(node))
        read |= {str(v.name) for node in inner for v in node.inputs if v is not None}
        tensors = {name: key for name, key in self.tensors.items() if name in read}
        return WrittenGraph(
            part.name, self.file, tensors, total_macs(nodes), parameters(nodes)
        )


def bundle_path(checkpoints: Mapping[str, Path], asked: Path | None, overwrite: bool) -> Path:
    """Returns where the bundle goes: where it was asked for, or beside the first checkpoint.

    There it is called like the checkpoint, or like all of several networks.

    Raises:
        CompileError: Something is there already that must not be replaced, the folder
            around it is missing, or the checkpoint's path names no file.
        OSError: Nothing can be written there.
    """
    for checkpoint in checkpoints.values():
        if not checkpoint.name:
            raise CompileError(
                f"{checkpoint}: is a directory, expected a file. Name the checkpoint inside"
                " it."
            )
    first = next(iter(checkpoints.values()))
    if len(checkpoints) > 1:
        first = first.with_name("-".join(checkpoints))
    out = asked or first.with_suffix(BUNDLE_SUFFIX)
    if out.is_symlink() or (out.exists() and not (out / MANIFEST_FILE).is_file()):
        raise CompileError(
            f"{out}: exists and is no bundle. Choose another folder with --out."
        )
    if out.exists() and not overwrite:
        raise CompileError(
            f"{out}: a bundle is already there. Pass --overwrite to replace it, or --out."
        )
    if not out.parent.is_dir():
        raise CompileError(f"--out {out}: {no_folder_text(out.parent)}.")
    check_writable(out)
    return out


def write_graph(
    subnet: Subnet, name: str, store: WeightStoreWriter, folder: Path
) -> WrittenGraph:
    """Writes a graph into ``folder``, its weights into ``store``; onnx's checker checks it."""
    import onnx

    # The network's own graph is never changed.
    model = subnet.network.model.clone()
    macs = total_macs(model.graph)
    store.store(model)
    model.producer_name = "skipc"
    model.graph.name = name
    path = folder / f"{name}.onnx"
    ir.save(model, path)
    store.flush()
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as cause:
        raise SupernetError(
            f"configuration {name!r}: onnx.checker refuses its graph: {cause}"
        ) from cause
    places = {tensor.offset_bytes: tensor.sha256 for tensor in store.tensors}
    tensors = {
        str(value.name): places[value.const_value.offset or 0]
        for held in model.graphs()
        for value in held.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
        and value.const_value.nbytes >= INLINE_BELOW_BYTES
    }
    return WrittenGraph(name, path, tensors, macs, subnet.parameters)


def _golden_file(configuration: str) -> str:
    """Returns the bundle's path of a configuration's expected outputs."""
    return f"golden/{configuration}.outputs.npz"


def write_golden(path: Path, cases: list[Case] | tuple[Case, ...]) -> None:
    """Writes the first cases to ``path``, each array as ``<case>/<tensor>``."""
    path.parent.mkdir(exist_ok=True)
    arrays = {
        f"{index}/{tensor}": array
        for index, case in enumerate(cases[:MAX_GOLDEN_CASES])
        for tensor, array in case.items()
    }
    write_arrays(path, arrays)


@dataclass(frozen=True, slots=True)
class InFront:
    """What a bundle takes where that is not what its networks take, and why.

    Attributes:
        inputs: What it takes.
        entry: What the manifest says of the prologue.
    """

    inputs: tuple[TensorSpec, ...]
    entry: PrologueEntry


@final
class BundleWriter:
    """Writes a bundle: configuration after configuration, then what holds for all of them.

    Used as a context manager, as the weight store is; ``folder`` is empty.
    """

    def __init__(
        self,
        folder: Path,
        families: Mapping[str, Family],
        front: InFront | None = None,
    ) -> None:
        self._folder = folder
        self._families = families
        self._front = front
        # All take the same; the first one's names are those of the bundle.
        self._first = next(iter(families.values())).network
        self._store = WeightStoreWriter(folder / WEIGHTS_FILE)
        self._configurations: list[ConfigurationEntry] = []
        self._axes: dict[str, set[str]] = {name: set() for name in families}
        self._graphs: list[tuple[str, WrittenGraph, GraphPart, Verification]] = []
        self._routers: list[NetworkEntry] = []

    def __enter__(self) -> BundleWriter:
        self._store.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._store.__exit__()

    def graph(self, subnet: Subnet, name: str) -> WrittenGraph:
        """Writes a graph and the weights that are not there yet; see ``write_graph``."""
        return write_graph(subnet, name, self._store, self._folder)

    def add_graphs(
        self,
        network: str,
        file: WrittenGraph,
        parts: Sequence[GraphPart],
        verified: Verification,
    ) -> None:
        """Adds the graphs of a file.

        Args:
            network: The network that they are of.
            file: The file.
            parts: The graphs.
            verified: How close it is to its reference.
        """
        for part in parts:
            names = {spec.name for spec in part.outputs}
            ranges = {n: r for n, r in verified.ranges.items() if n in names}
            check = replace(verified, ranges=ranges)
            self._graphs.append((network, file.piece(part), part, check))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the networks take, behind a prologue or not."""
        return self._first.inputs

    def add_router(self, network: NetworkEntry) -> None:
        """Adds the network of a router, whose graph is added as those of others are."""
        self._routers.append(network)

    def configuration(
        self,
        configuration: Configuration,
        route: Sequence[Stage],
        expected: Sequence[Sequence[Case]],
        routed: Routed | None = None,
    ) -> None:
        """Adds a configuration with its golden outputs.

        Args:
            configuration: The configuration.
            route: How it runs, through graphs that were added.
            expected: By case and by stage, what the reference gives.
            routed: What its router chooses from.
        """
        golden = _golden_file(configuration.name)
        outputs = self._first.outputs
        cases = [
            golden_names(
                [
                    stage.answer(outputs, found) if stage.answers_at(number) else {}
                    for number, (stage, found) in enumerate(zip(route, case, strict=True))
                ]
            )
            for case in expected
        ]
        write_golden(self._folder / golden, cases)
        self._configurations.append(
            ConfigurationEntry(
                name=configuration.name,
                parts=tuple(part.entry for part in configuration.parts),
                route=tuple(route),
                golden=golden,
                stops=configuration.stops or stops_of(route, expected),
                metrics=configuration.metrics,
                routed=routed,
            )
        )
        for part in configuration.parts:
            self._axes[part.network] |= part.choices.keys()

    def golden_inputs(self, cases: list[Case], handed: list[Case]) -> None:
        """Writes the golden inputs, and what the prologue hands over of them."""
        write_golden(self._folder / GOLDEN_INPUTS_FILE, cases)
        if handed:
            write_golden(self._folder / GOLDEN_PROLOGUE_FILE, handed)

    def recipe(self, recipe: Recipe, profile: Path | None) -> Recipe:
        """Returns the recipe with the user's own profile, which the bundle takes along."""
        if profile is None:
            return recipe
        write_whole(self._folder / profile.name, profile.read_bytes())
        return replace(recipe, profile=profile.name)

    def finish(
        self,
        name: str,
        checkpoints: Mapping[str, Path],
        precision: str,
        data_sketches: Mapping[str, str],
        recipe: Recipe,
    ) -> None:
        """Writes ``manifest.json``, the last file, which has the hashes of all others.

        Args:
            name: The bundle's file name.
            checkpoints: The file of each network.
            precision: What the graphs compute in.
            data_sketches: Of the data that something was chosen by: by what was chosen.
            recipe: How its engines are to be built.
        """
        manifest = Manifest(
            name=name.removesuffix(BUNDLE_SUFFIX) or name,
            provenance=_provenance(precision, data_sketches),
            recipe=recipe,
            inputs=self._first.inputs if self._front is None else self._front.inputs,
            outputs=self._first.outputs,
            dimensions=self._first.dimensions,
            networks=tuple(
                NetworkEntry(
                    name=name,
                    checkpoint=checkpoints[name].name,
                    checkpoint_sha256=checkpoint_sha256(checkpoints[name]),
                    model=family.network.description,
                    norm=family.norms.text,
                    axes=family.axis_entries(self._axes[name]),
                )
                for name, family in self._families.items()
            )
            + tuple(self._routers),
            graphs=self._entries(),
            configurations=tuple(self._configurations),
            weights_file=WEIGHTS_FILE,
            weights=self._store.tensors,
            golden_inputs=GOLDEN_INPUTS_FILE,
            files=file_entries(self._folder),
            prologue=self._entry(),
        )
        write_json(self._folder / MANIFEST_FILE, written(manifest))

    def _entry(self) -> PrologueEntry | None:
        if self._front is None:
            return None
        handed = (self._folder / GOLDEN_PROLOGUE_FILE).exists()
        return replace(self._front.entry, golden=GOLDEN_PROLOGUE_FILE if handed else "")

    def _entries(self) -> tuple[GraphEntry, ...]:
        store = self._store
        used = [frozenset(graph.tensors.values()) for _, graph, _, _ in self._graphs]
        users = Counter(key for keys in used for key in keys)
        return tuple(
            GraphEntry(
                name=graph.name,
                network=network,
                file=graph.file.name,
                inputs=part.inputs,
                outputs=part.outputs,
                macs=graph.macs,
                parameters=graph.parameters,
                weights_bytes=store.size_bytes(keys),
                own_bytes=store.size_bytes(frozenset(k for k in keys if users[k] == 1)),
                verification=verification,
                gates=part.gates,
                gate_parts=part.gate_parts,
            )
            for (network, graph, part, verification), keys in zip(
                self._graphs, used, strict=True
            )
        )


def _provenance(precision: str, data_sketches: Mapping[str, str]) -> Provenance:
    """Returns how a bundle that is made now is made."""
    versions = {}
    for package in ("skipc", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    now = datetime.datetime.now(datetime.timezone.utc)
    return Provenance(
        created_utc=now.isoformat(timespec="seconds"),
        precision=precision,
        versions=versions,
        data_sketches=data_sketches,
    )

"""Writing the portable bundle: graphs, weight store, golden data, manifest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.bundle.array_files import write_arrays
from skipc.compiler.bundle.files import file_entries, write_json
from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.costs import total_macs
from skipc.runtime.bundle.folder import MANIFEST_FILE
from skipc.runtime.bundle.manifest import (
    ConfigurationEntry,
    GraphEntry,
    Manifest,
    NetworkEntry,
    PartEntry,
    Provenance,
    Verification,
)
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.route import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.compiler.bundle.weights import WeightStoreWriter
    from skipc.compiler.family import Subnet
    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.manifest import Recipe

WEIGHTS_FILE = "weights.bin"
GOLDEN_INPUTS_FILE = "golden/inputs.npz"
MAX_GOLDEN_CASES = 2


@dataclass(frozen=True, slots=True)
class WrittenGraph:
    """A graph that is on disk.

    Attributes:
        name: Its name.
        file: Its file.
        tensors: Hashes of the stored tensors that it uses.
        macs: Multiply-accumulate operations of one inference.
        parameters: Its parameters.
    """

    name: str
    file: Path
    tensors: frozenset[str]
    macs: int
    parameters: int


@dataclass(frozen=True, slots=True)
class WrittenConfiguration:
    """A configuration whose graph is on disk and verified.

    Attributes:
        name: Its name.
        parts: What was chosen for it.
        graph: Its graph, which is its whole route.
        verification: How far the graph is from its reference.
        metrics: The front's.
    """

    name: str
    parts: tuple[PartEntry, ...]
    graph: WrittenGraph
    verification: Verification
    metrics: Mapping[str, float]


def write_graph(
    subnet: Subnet, name: str, store: WeightStoreWriter, folder: Path
) -> WrittenGraph:
    """Writes a graph into ``folder``, its weights into ``store``.

    Raises:
        SupernetError: ``onnx.checker`` refuses the graph.
    """
    import onnx

    # The network's own graph is never changed.
    model = subnet.network.model.clone()
    macs = total_macs(model.graph)
    stored = store.store(model)
    model.producer_name = "skipc"
    model.graph.name = name
    path = folder / f"{name}.onnx"
    ir.save(stored.model, path)
    store.flush()
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as cause:
        raise SupernetError(
            f"configuration {name!r}: onnx.checker refuses its graph: {cause}"
        ) from cause
    return WrittenGraph(name, path, stored.tensors, macs, subnet.parameters)


def golden_outputs_file(configuration: str) -> str:
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


def write_manifest(
    folder: Path,
    name: str,
    provenance: Provenance,
    recipe: Recipe,
    full: Network,
    networks: tuple[NetworkEntry, ...],
    configurations: list[WrittenConfiguration],
    store: WeightStoreWriter,
) -> None:
    """Writes ``manifest.json``, the last file of a bundle."""
    users = Counter(key for one in configurations for key in one.graph.tensors)
    manifest = Manifest(
        name=name,
        provenance=provenance,
        recipe=recipe,
        inputs=full.inputs,
        outputs=full.outputs,
        batch=full.batch,
        networks=networks,
        graphs=tuple(
            GraphEntry(
                name=one.graph.name,
                network=one.parts[0].network,
                file=one.graph.file.name,
                inputs=full.inputs,
                outputs=full.outputs,
                macs=one.graph.macs,
                parameters=one.graph.parameters,
                weights_bytes=store.size_bytes(one.graph.tensors),
                own_bytes=store.size_bytes(
                    frozenset(key for key in one.graph.tensors if users[key] == 1)
                ),
                verification=one.verification,
            )
            for one in configurations
        ),
        configurations=tuple(
            ConfigurationEntry(
                name=one.name,
                parts=one.parts,
                route=(Stage(one.graph.name),),
                golden=golden_outputs_file(one.name),
                stops=(1.0,),
                metrics=one.metrics,
            )
            for one in configurations
        ),
        weights_file=WEIGHTS_FILE,
        weights=store.tensors,
        golden_inputs=GOLDEN_INPUTS_FILE,
        files=file_entries(folder),
    )
    write_json(folder / MANIFEST_FILE, written(manifest))

"""Writing the portable bundle: graphs, weight store, golden data, manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.bundle.array_files import write_arrays
from skipc.compiler.bundle.files import file_entries, write_whole
from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.costs import total_macs
from skipc.runtime.bundle.folder import MANIFEST_FILE
from skipc.runtime.bundle.manifest import (
    ConfigurationEntry,
    Manifest,
    Provenance,
    UnitEntry,
    Verification,
)

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.axes.units import UnitSearch
    from skipc.compiler.bundle.weights import WeightStoreWriter
    from skipc.compiler.front import Configuration
    from skipc.compiler.read.export import SupernetGraph
    from skipc.compiler.subnets import Subnet
    from skipc.compiler.verify.golden import Case
    from skipc.runtime.bundle.recipe import Recipe

WEIGHTS_FILE = "weights.bin"
GOLDEN_INPUTS_FILE = "golden/inputs.npz"
MAX_GOLDEN_CASES = 2


@dataclass(frozen=True, slots=True)
class WrittenSubnet:
    """A subnet whose graph is on disk.

    Attributes:
        configuration: Its configuration.
        graph: Its file.
        tensors: Hashes of the stored tensors that it uses.
        macs: Multiply-accumulate operations of one inference.
        parameters: Its parameters.
    """

    configuration: Configuration
    graph: Path
    tensors: frozenset[str]
    macs: int
    parameters: int


def write_subnet(
    subnet: Subnet, configuration: Configuration, store: WeightStoreWriter, folder: Path
) -> WrittenSubnet:
    """Writes one subnet's graph into ``folder``, its weights into ``store``.

    Raises:
        SupernetError: ``onnx.checker`` refuses the graph.
    """
    import onnx

    model = subnet.model
    macs = total_macs(model.graph)
    stored = store.store(model)
    model.producer_name = "skipc"
    model.graph.name = configuration.name
    path = folder / f"{configuration.name}.onnx"
    ir.save(stored.model, path)
    store.flush()
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as cause:
        raise SupernetError(
            f"configuration {configuration.name!r}: onnx.checker refuses its graph: {cause}"
        ) from cause
    return WrittenSubnet(configuration, path, stored.tensors, macs, subnet.parameters)


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
    supernet: SupernetGraph,
    search: UnitSearch,
    subnets: list[tuple[WrittenSubnet, Verification]],
    store: WeightStoreWriter,
) -> None:
    """Writes ``manifest.json``, the last file of a bundle."""
    entries = []
    for subnet, verification in subnets:
        others: set[str] = set()
        for other, _ in subnets:
            if other is not subnet:
                others |= other.tensors
        entries.append(
            ConfigurationEntry(
                name=subnet.configuration.name,
                skip=tuple(unit.name for unit in subnet.configuration.units),
                graph=subnet.graph.name,
                golden=golden_outputs_file(subnet.configuration.name),
                macs=subnet.macs,
                parameters=subnet.parameters,
                weights_bytes=store.size_bytes(subnet.tensors),
                own_bytes=store.size_bytes(subnet.tensors - others),
                metrics=subnet.configuration.metrics,
                verification=verification,
            )
        )
    manifest = Manifest(
        name=name,
        provenance=provenance,
        recipe=recipe,
        inputs=supernet.inputs,
        outputs=supernet.outputs,
        batch=supernet.batch,
        units=tuple(UnitEntry(u.name, u.parameters, u.macs) for u in search.units),
        configurations=tuple(entries),
        weights_file=WEIGHTS_FILE,
        weights=store.tensors,
        golden_inputs=GOLDEN_INPUTS_FILE,
        files=file_entries(folder),
    )
    text = json.dumps(manifest.to_json(), indent=1)
    write_whole(folder / MANIFEST_FILE, text.encode() + b"\n")

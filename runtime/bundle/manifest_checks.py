"""What a manifest must be besides well-formed: its fields fit one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FormatError

if TYPE_CHECKING:
    from .manifest import Manifest

_NOT_PORTABLE = ("engines/", "measured/")


def check_manifest(manifest: Manifest, where: str) -> None:
    """Checks what one field of a manifest says against another.

    Raises:
        FormatError: They contradict each other; the message begins with ``where``.
    """
    _check_tensors(manifest, where)
    _check_configurations(manifest, where)
    _check_files(manifest, where)
    _check_weights(manifest, where)


def _check_tensors(manifest: Manifest, where: str) -> None:
    for kind, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if not tensors:
            raise FormatError(f"{where}: {kind!r} is empty.")
        _refuse_twice([tensor.name for tensor in tensors], f"{where}: {kind}: the name")
    tensors = (*manifest.inputs, *manifest.outputs)
    dynamic = {size for tensor in tensors for size in tensor.shape if isinstance(size, str)}
    if len(dynamic) > 1:
        raise FormatError(
            f"{where}: only the batch may be dynamic, found the names {sorted(dynamic)}."
        )
    if dynamic and manifest.batch is None:
        raise FormatError(f"{where}: a shape names {dynamic.pop()!r}, but 'batch' is null.")
    varies = any(isinstance(size, str) for t in manifest.inputs for size in t.shape)
    if manifest.batch is not None and not varies:
        raise FormatError(f"{where}: 'batch' is given, but no input has a dynamic dimension.")


def _check_configurations(manifest: Manifest, where: str) -> None:
    if not manifest.configurations:
        raise FormatError(f"{where}: holds no configuration.")
    entries = manifest.configurations
    _refuse_twice([entry.name for entry in entries], f"{where}: the configuration name")
    _refuse_twice([entry.graph for entry in entries], f"{where}: the graph file")
    _refuse_twice([unit.name for unit in manifest.units], f"{where}: the unit name")
    units = {unit.name for unit in manifest.units}
    for entry in entries:
        foreign = sorted(set(entry.skip) - units)
        if foreign:
            raise FormatError(
                f"{where}: configuration {entry.name!r} skips {foreign[0]!r},"
                " which is not a unit of this bundle."
            )


def _check_files(manifest: Manifest, where: str) -> None:
    needed = [manifest.weights_file, manifest.golden_inputs]
    for entry in manifest.configurations:
        needed += [entry.graph, entry.golden]
    listed = {file.path for file in manifest.files}
    missing = [path for path in needed if path not in listed]
    if missing:
        raise FormatError(f"{where}: {missing[0]!r} is used but not listed in 'files'.")
    foreign = [path for path in listed if path.startswith(_NOT_PORTABLE)]
    foreign += {"manifest.json"} & listed
    if foreign:
        raise FormatError(
            f"{where}: {min(foreign)!r} may not be listed in 'files': the manifest cannot hold"
            " its own hash, engines are listed in engines/<target>/engines.json, and measured"
            " tables come and go."
        )


def _check_weights(manifest: Manifest, where: str) -> None:
    end_bytes = 0
    for index, tensor in enumerate(manifest.weights):
        if tensor.offset_bytes < end_bytes:
            raise FormatError(
                f"{where}: weights[{index}] starts at {tensor.offset_bytes} bytes and overlaps"
                f" the tensor before it, which ends at {end_bytes}."
            )
        end_bytes = tensor.offset_bytes + tensor.size_bytes
    _refuse_twice(
        [tensor.sha256 for tensor in manifest.weights], f"{where}: weights: the hash"
    )
    store = next(f for f in manifest.files if f.path == manifest.weights_file)
    if end_bytes > store.size_bytes:
        raise FormatError(
            f"{where}: the weights end at {end_bytes} bytes, but {store.path!r} has"
            f" {store.size_bytes}."
        )


def _refuse_twice(values: list[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise FormatError(f"{what} {value!r} is given twice.")
        seen.add(value)

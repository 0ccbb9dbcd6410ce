"""A bundle as a model in a repository of NVIDIA's Triton server, for its python backend."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import skipc.runtime
from skipc.compiler.bundle.files import staged_folder
from skipc.runtime.bundle.tensors import BATCH
from skipc.tools.serve.errors import ServeError
from skipc.tools.serve.protocol import VERSION
from skipc.tools.serve.requests import Joining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.runtime import Bundle
    from skipc.runtime.bundle.tensors import TensorSpec

MODEL_FILE, CONFIG_FILE = "model.py", "config.pbtxt"
BUNDLE_FOLDER, RUNTIME_FOLDER = "bundle.skipc", "skipc_runtime"
_TYPES = {
    "bool": "TYPE_BOOL",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    **{f"int{bits}": f"TYPE_INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"TYPE_UINT{bits}" for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What the model does unless its ``config.pbtxt`` is edited.

    Attributes:
        target: Whose engines run.
        latency_ms: What a call may take; None for no limit.
        min_accuracy: Configurations below it do not run.
        configuration: The one that always runs; None for the governor's choice.
        threads: Threads of a call; None for the backend's default.
        wait_ms: How long Triton waits for more requests to make a batch of.
    """

    target: str
    latency_ms: float | None = None
    min_accuracy: float | None = None
    configuration: str | None = None
    threads: int | None = None
    wait_ms: float = 0.0


def write_model(bundle: Bundle, out: Path, options: ModelOptions, overwrite: bool) -> Path:
    """Writes a model of a bundle into a repository; returns the model's folder.

    Raises:
        ServeError: It is there already.
        OSError: It cannot be written.
    """
    place = out / bundle.manifest.name
    if place.exists() and not overwrite:
        raise ServeError(f"{place} exists already. Give --overwrite, or another --out.")
    with staged_folder(place) as folder:
        (folder / CONFIG_FILE).write_text(model_config(bundle, options), encoding="utf-8")
        version = folder / VERSION
        version.mkdir()
        source = Path(__file__).with_name("triton_model.py")
        shutil.copyfile(source, version / MODEL_FILE)
        shutil.copytree(bundle.path, version / BUNDLE_FOLDER)
        runtime = Path(skipc.runtime.__file__).parent
        unwanted = shutil.ignore_patterns("__pycache__", "ruff.toml")
        shutil.copytree(runtime, version / RUNTIME_FOLDER, ignore=unwanted)
    return place


def model_config(bundle: Bundle, options: ModelOptions) -> str:
    """Returns the model's ``config.pbtxt``."""
    manifest = bundle.manifest
    tensors = (*manifest.inputs, *manifest.outputs)
    joining = Joining(manifest.inputs, manifest.outputs, manifest.dimensions)
    joins = joining.most_rows > 1 and all(spec.shape[0] == BATCH for spec in tensors)
    lines = [
        f"name: {json.dumps(manifest.name)}",
        'backend: "python"',
        f"max_batch_size: {joining.most_rows if joins else 0}",
        *_tensors("input", manifest.inputs, joins),
        *_tensors("output", manifest.outputs, joins),
        "instance_group [ { count: 1 } ]",
    ]
    if joins:
        delay = round(1000 * options.wait_ms)
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}")
    return "\n".join([*lines, *_parameters(options), ""])


def _tensors(kind: str, specs: Sequence[TensorSpec], joins: bool) -> list[str]:
    found = []
    for spec in specs:
        sizes = spec.shape[1:] if joins else spec.shape
        dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in sizes)
        name, dtype = json.dumps(spec.name), _TYPES[spec.dtype]
        found.append(f"{kind} [ {{ name: {name} data_type: {dtype} dims: [ {dims} ] }} ]")
    return found


def _parameters(options: ModelOptions) -> list[str]:
    said: Mapping[str, object] = {
        "target": options.target,
        "latency_ms": options.latency_ms,
        "min_accuracy": options.min_accuracy,
        "configuration": options.configuration,
        "threads": options.threads,
    }
    return [
        f'parameters {{ key: "{key}" value: {{ string_value: {json.dumps(str(value))} }} }}'
        for key, value in said.items()
        if value is not None
    ]

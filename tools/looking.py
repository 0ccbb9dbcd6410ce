"""What a checkpoint, and the folder that it is used in, tell of a project; no code is run."""

from __future__ import annotations

import ast
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.read.checkpoint import content_of
from skipc.compiler.read.file_format import is_checkpoint_file
from skipc.compiler.read.sniff import Kind, sniff
from skipc.compiler.read.state_dict import WRAPPER_WORDS, find_weights
from skipc.compiler.select.data.folder import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_MOST_BYTES = 1_000_000  # of a source file that is looked through
_LOOKED_AT = 20  # images whose sizes are compared
_USUAL_PIXELS = 224


@dataclass(frozen=True, slots=True)
class Guess:
    """A value, and what it was told from."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class NetworkClass:
    """A class of a network, as its source says.

    Attributes:
        factory: ``MODULE:CLASS``.
        file: The source file's name.
        parts: What it calls its parts.
        arguments: What its constructor takes, as it is written there.
        inputs: What ``forward`` takes and has no default for.
    """

    factory: str
    file: str
    parts: frozenset[str]
    arguments: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a checkpoint that does not say what network they are of.

    Attributes:
        parts: What their names begin with.
        shapes: Their shapes by name, in the file's order.
    """

    parts: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def weights_in(checkpoint: Path) -> Weights | None:
    """Returns the weights in a checkpoint; None where it holds its network, too.

    Raises:
        CheckpointError: It cannot be read.
    """
    kind = sniff(checkpoint)
    if kind in (Kind.ONNX, Kind.PROGRAM):
        return None
    content = content_of(checkpoint, kind)
    if is_checkpoint_file(content):
        return None
    shapes = {
        ".".join(word for word in name.split(".") if word not in WRAPPER_WORDS): tuple(
            tensor.shape
        )
        for name, tensor in find_weights(checkpoint, content).items()
    }
    return Weights(frozenset(name.partition(".")[0] for name in shapes), shapes)


def network_classes(folder: Path) -> tuple[NetworkClass, ...]:
    """Returns the networks that the Python files in a folder define; reads, runs nothing."""
    found: list[NetworkClass] = []
    for path in sorted(folder.glob("*.py")):
        if path.stat().st_size > _MOST_BYTES or not path.stem.isidentifier():
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, RecursionError):
            continue
        networks: set[str] = set()
        for node in tree.body:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            if any(base.endswith("Module") or base in networks for base in bases):
                networks.add(node.name)
                found.append(_described(node, path))
    return tuple(found)


def class_of(weights: Weights, classes: tuple[NetworkClass, ...]) -> NetworkClass | None:
    """Returns the class whose parts are called as the weights are; None of none or several."""
    fitting = [one for one in classes if weights.parts <= one.parts]
    if not fitting:
        return None
    fewest = min(len(one.parts) for one in fitting)
    best = [one for one in fitting if len(one.parts) == fewest]
    return best[0] if len(best) == 1 else None


def input_of(
    weights: Weights, network: NetworkClass | None, data: Path | None
) -> Guess | None:
    """Returns what goes in, by the data and the first weights; None where nobody knows."""
    if network is not None and len(network.inputs) != 1:
        return None
    name = f"{network.inputs[0]}=" if network is not None else ""
    if data is not None and (sample := _sample_of(data)):
        return Guess(f"{name}{sample}", f"x in {data.name}")
    for weight, shape in weights.shapes.items():
        if "embed" in weight:
            return None
        if len(shape) == 4:
            height, width = _image_size(data)
            # Of grouped convolutions the file does not tell the channels: 3 is most likely.
            channels = shape[1] if shape[1] in (1, 3) else 3
            where = f"{weight}, and the images" if data is not None else f"{weight}; a guess"
            return Guess(f"{name}1x{channels}x{height}x{width}", where)
        if len(shape) == 2:
            return Guess(f"{name}1x{shape[1]}", weight)
    return None


def data_in(folder: Path) -> tuple[Guess, ...]:
    """Returns what may be the labelled data in a folder: images by class, or an ``.npz``.

    What is called as data to train on is left out where there is something else.
    """
    found = [
        Guess(f"{path.name}/", f"a folder of images for each of {classes} classes")
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and path.is_dir()
        and (classes := sum(_first_image(each) is not None for each in path.iterdir())) > 1
    ]
    found += [
        Guess(path.name, "arrays x and y")
        for path in sorted(folder.glob("*.npz"))
        if {"x.npy", "y.npy"} <= _arrays(path)
    ]
    others = [one for one in found if not one.text.lower().startswith("train")]
    return tuple(others or found)


def _described(node: ast.ClassDef, path: Path) -> NetworkClass:
    functions = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    parts = {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and ast.unparse(each.value) == "self"
    }
    made, called = functions.get("__init__"), functions.get("forward")
    arguments = "" if made is None else ast.unparse(made.args).removeprefix("self")
    inputs: tuple[str, ...] = ()
    if called is not None:
        names = [argument.arg for argument in called.args.args[1:]]
        inputs = tuple(names[: len(names) - len(called.args.defaults)])
    return NetworkClass(
        f"{path.stem}:{node.name}",
        path.name,
        frozenset(parts),
        arguments.removeprefix(", "),
        inputs,
    )


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)


def _first_image(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    return next((path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES), None)


def _image_size(data: Path | None) -> tuple[int, int]:
    """Returns the height and width that the first images have, where it is one."""
    sizes = set()
    if data is not None and data.is_dir():
        from PIL import Image, UnidentifiedImageError

        for path, _ in zip(_images(data), range(_LOOKED_AT), strict=False):
            try:
                with Image.open(path) as image:
                    sizes.add((image.height, image.width))
            except (OSError, UnidentifiedImageError, ValueError):
                continue
    return sizes.pop() if len(sizes) == 1 else (_USUAL_PIXELS, _USUAL_PIXELS)


def _sample_of(data: Path) -> str:
    """Returns an input as ``x`` of an ``.npz`` is, by its header; "" of other data."""
    if data.suffix != ".npz":
        return ""
    try:
        with zipfile.ZipFile(data) as archive, archive.open("x.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""
    sizes = "x".join(map(str, (1, *shape[1:])))
    return sizes if dtype == np.float32 else f"{sizes}:{dtype}"


def _arrays(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return set()

"""Building the network: ``--model`` names a factory, ``--model-arg`` its arguments.

A known library (``timm:NAME``, ``torchvision:NAME``, ``transformers:CLASS``,
``skipc:RECIPE``; see ``libraries.py``) may be named by a checkpoint too. Code of the user's
own (``PKG.MODULE:FACTORY``) is named on the command line only.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.bounds import offline
from skipc.compiler.read.libraries import LIBRARIES
from skipc.runtime.errors import SkipcError, choices_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import nn

    from skipc.runtime.bundle.tensors import TensorSpec


_FORMS = (
    "Write PKG.MODULE:FACTORY for code of your own, or name a known library:"
    " timm:NAME, torchvision:NAME, transformers:CLASS, skipc:RECIPE."
)

_OPTIONS = ("--model", "--model-arg")

_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """A network, not yet with the checkpoint's weights.

    Attributes:
        module: The network.
        model: The factory and its arguments, as text for the manifest.
        inputs: What the library says the network's inputs are; empty if it says nothing.
    """

    module: nn.Module
    model: str
    inputs: tuple[TensorSpec, ...]


def parse_arguments(
    pairs: Iterable[tuple[str, str]], option: str = "--model-arg"
) -> dict[str, object]:
    """Returns the values of ``--model-arg NAME=VALUE``: JSON (``[8,16]``, ``true``) or text.

    Args:
        pairs: Names and values.
        option: What the option is called, for messages.

    Raises:
        CheckpointError: An empty or repeated name, or a value that looks like Python's or
            broken JSON, which would otherwise silently become text.
    """
    arguments: dict[str, object] = {}
    for name, text in pairs:
        if not name or name in arguments:
            problem = "is given twice" if name else "has no name"
            raise CheckpointError(
                f"{option} {name}={text}: {problem}. Give each argument once, as NAME=VALUE."
            )
        if text in _PYTHON_WORDS:
            raise CheckpointError(
                f"{option} {name}={text}: values are JSON."
                f" Write {name}={_PYTHON_WORDS[text]},"
                f' or {name}="\\"{text}\\"" if the text is meant.'
            )
        try:
            arguments[name] = json.loads(text)
        except (ValueError, RecursionError) as cause:
            if text.startswith(("[", "{", '"', "(")):
                raise CheckpointError(
                    f"{option} {name}={text[:200]}: not valid JSON: {cause}."
                    ' Write lists as [8,16] and objects as {"a":1}, in quotes for the shell.'
                ) from cause
            arguments[name] = text
    return arguments


def build_named(
    spec: str, arguments: Mapping[str, object], options: tuple[str, str] = _OPTIONS
) -> BuiltModel:
    """Builds ``LIBRARY:NAME`` with keyword arguments; runs no code but the library's.

    ``options`` are what the network and its arguments were given with, for messages.

    Raises:
        CheckpointError: The library is unknown, or refused it.
        ExtraMissingError: The library is not installed.
    """
    library, name = _split(spec)
    if library not in LIBRARIES:
        raise CheckpointError(
            f"the model {spec!r} is not of a known library, and a checkpoint never names code"
            f" to import. Known: {', '.join(sorted(LIBRARIES))}. If you trust that code, name"
            f" it yourself: --model {spec}"
        )
    with offline():
        return _build(spec, arguments, lambda: LIBRARIES[library](name, arguments), options)


def build_model(spec: str, arguments: Mapping[str, object]) -> BuiltModel:
    """Builds the network that ``--model`` names; imports the user's own code if that is it.

    Raises:
        CheckpointError: There is no such factory, it failed, or it returned no network.
        ExtraMissingError: The library is not installed.
    """
    from torch import nn

    library, _ = _split(spec)
    if library in LIBRARIES:
        return build_named(spec, arguments)
    factory = imported("--model", spec, CheckpointError, _FORMS)
    if not callable(factory) or isinstance(factory, nn.Module):
        raise CheckpointError(
            f"--model {spec!r} is {_kind(factory)}, expected a factory: a function or class"
            " that returns the network when it is called."
        )
    return _build(spec, arguments, lambda: (factory(**arguments), ()))


def is_users_code(spec: str | None) -> bool:
    """Tells whether ``--model`` names code of the user's own, whose version nobody knows."""
    return spec is not None and spec.partition(":")[0] not in LIBRARIES


def _split(spec: str) -> tuple[str, str]:
    left, colon, right = spec.partition(":")
    if not colon or not left or not right:
        raise CheckpointError(f"--model {spec!r} names no factory. {_FORMS}")
    return left, right


def _build(
    spec: str,
    arguments: Mapping[str, object],
    build: Callable[[], tuple[object, tuple[TensorSpec, ...]]],
    options: tuple[str, str] = _OPTIONS,
) -> BuiltModel:
    from torch import nn

    listed = ", ".join(f"{name}={json.dumps(value)}" for name, value in arguments.items())
    model = f"{spec}({listed})"
    try:
        module, inputs = build()
    except SkipcError:
        raise
    except Exception as cause:
        raise CheckpointError(
            f"{options[0]} {model[:400]} failed{place_of(cause)}: {reason_of(cause)}."
            f" Check the arguments ({options[1]} NAME=VALUE)."
        ) from cause
    if not isinstance(module, nn.Module):
        raise CheckpointError(
            f"--model {model} returned {_kind(module)}, expected a torch.nn.Module."
            " The factory must return the network itself."
        )
    return BuiltModel(module, model, inputs)


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of class {type(value).__name__!r}"


def imported(
    option: str,
    spec: str,
    error: type[Exception],
    forms: str = "Write it as PKG.MODULE:FUNCTION.",
) -> object:
    """Returns what ``spec`` names; the current directory is importable, as for ``python -m``.

    Args:
        option: The option that ``spec`` was given to, for messages.
        spec: ``PKG.MODULE:NAME``; the name may lead on into classes (``Net.small``).
        error: What to raise where there is no such thing, or its module fails.
        forms: A sentence that says what may be written.
    """
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise error(f"{option} {spec!r}: names nothing. {forms}")
    # Left there: the user's code may import its neighbours only when it runs.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as cause:
        missing = cause.name or ""
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise error(
                f"{option} {spec!r}: importing {module_name!r} failed{place_of(cause)}:"
                f" {cause}. Install what it imports."
            ) from cause
        raise error(
            f"{option} {spec!r}: there is no module {missing!r} in the current directory or"
            f" among the installed packages. {forms}"
        ) from cause
    except Exception as cause:
        raise error(
            f"{option} {spec!r}: importing {module_name!r} failed{place_of(cause)}:"
            f" {reason_of(cause)}."
        ) from cause
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n in vars(found) if not n.startswith("_")]
            callables = [n for n in known if callable(getattr(found, n))]
            raise error(
                f"{option} {spec!r}: {module_name!r} has no {part!r}."
                f" {choices_text(part, callables)}"
            )
        found = getattr(found, part)
    return found


def function_of(option: str, spec: str, error: type[Exception]) -> Callable[..., object]:
    """Returns the function that ``spec`` names, or raises ``error``; see ``imported``."""
    found = imported(option, spec, error)
    if not callable(found):
        raise error(f"{option} {spec!r}: is {type(found).__name__!r}, expected a function.")
    function: Callable[..., object] = found
    return function


def reason_of(cause: BaseException) -> str:
    """Returns an exception's type and text in one line, cut where it is long."""
    text = " ".join(str(cause).split()).rstrip(".")
    return f"{type(cause).__name__}: {text if len(text) <= 400 else text[:400] + ' ...'}"


def place_of(cause: BaseException) -> str:
    """Returns where user code raised, as `` in file.py, line 3``; may be empty."""
    frames = traceback.extract_tb(cause.__traceback__)
    inner = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    last = inner[-1] if inner else None
    return f" in {os.path.basename(last.filename)}, line {last.lineno}" if last else ""

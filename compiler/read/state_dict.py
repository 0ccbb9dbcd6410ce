"""Finding the weights in a checkpoint and putting them into the network."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any, TypeGuard

from skipc.compiler.errors import CheckpointError
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch
    from torch import nn

    Weights = Mapping[str, torch.Tensor]

NESTING_KEYS = (
    *("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights"),
    *("params", "ema", "model_ema", "ema_state_dict", "state_dict_ema"),
)
"""Where training scripts put the weights beside the optimizer's state."""

WRAPPER_WORDS = frozenset(
    {"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module"}
)
"""What torch.compile, activation checkpointing, FSDP and DataParallel put into names."""

_UNREADABLE = re.compile(r"float[468]_\w+|bits\w+|qu?int\w+|u?int[1-7]")
"""The types that PyTorch stores and does not compute with as they are."""

_SHOWN = 3


def find_weights(path: Path, content: object, wanted: str | None = None) -> dict[str, Any]:
    """Returns the state_dict in a loaded checkpoint, at its top or nested.

    ``wanted`` is ``--weights``: the key of one of several sets, or what begins the names of
    one (``ema_model.``), which is taken off.

    Raises:
        CheckpointError: There is none, or there are several to choose from.
    """
    if isinstance(content, Mapping):
        sets = _sets(content)
        if wanted is not None:
            return _chosen(path, sets, wanted)
        known = {key: held for key, held in sets.items() if key in ("", *NESTING_KEYS)}
        if len(known) > 1 or (sets and not known):
            raise CheckpointError(
                f"{path}: holds weights under"
                f" {' and '.join(shown(key) for key in list(sets)[:10])}. Choose:"
                f" --weights {list(known or sets)[-1][:60]}"
            )
        if known:
            return next(iter(known.values()))
        keys = ", ".join(shown(key) for key in list(content)[:10]) or "nothing"
        found = f"a dict with {keys}"
    else:
        found = f"an object of class {type(content).__name__!r}"
    raise CheckpointError(
        f"{path}: holds no weights: found {found}. Expected a state_dict (names to tensors),"
        f" at the top or under one of {', '.join(NESTING_KEYS[:4])} ..."
        " Save one: torch.save(model.state_dict(), 'weights.pt')"
    )


def _sets(content: Mapping[object, object]) -> dict[str, dict[str, Any]]:
    """Returns the sets of weights in a checkpoint by their keys; "" for the top."""
    if _is_weights(content):
        return {"": {str(name): value for name, value in content.items()}}
    found = {key: dict(held) for key, held in content.items() if _is_weights(held)}
    return {key: held for key, held in found.items() if isinstance(key, str)}


def _chosen(path: Path, sets: Mapping[str, dict[str, Any]], wanted: str) -> dict[str, Any]:
    if wanted in sets:
        return sets[wanted]
    for weights in sets.values():
        begin = wanted if wanted.endswith(".") else f"{wanted}."
        inner = {n.removeprefix(begin): w for n, w in weights.items() if n.startswith(begin)}
        if inner:
            return inner
    begins = {name.partition(".")[0] for weights in sets.values() for name in weights}
    raise CheckpointError(
        f"{path}: --weights {shown(wanted)} is no set of weights and begins no name."
        f" {choices_text(wanted, {key for key in sets if key} | begins)}"
    )


def load_weights(path: Path, module: nn.Module, weights: Weights, model: str) -> None:
    """Puts ``weights`` into ``module``, all of them and nothing else.

    What only a wrapper writes into names (``module.``, ``_orig_mod.``) is taken off where the
    network's own names lack it. Batch-norm counters (``num_batches_tracked``) may be missing:
    nothing reads them in eval mode; so may a name of a tensor that is there under another one.
    Names that transformers wrote are taken as it takes them.

    Raises:
        CheckpointError: Names or shapes do not fit, a value would lose precision or cannot be
            read, or a parameter holds NaN.
    """
    own = module.state_dict()
    weights = _without_wrappers(path, weights, own)
    _check_tensors(path, weights, own, model)
    if not weights.keys() <= own.keys():
        weights = _renamed(module, weights)
        _check_tensors(path, weights, own, model)
    try:
        result = module.load_state_dict(dict(weights), strict=False)
    # Whatever PyTorch says of tensors of kinds that it cannot copy.
    except Exception as cause:
        reason = " ".join(str(cause).split())[:300]
        raise CheckpointError(
            f"{path}: the weights do not fit {model}: {reason}. Check --model and --model-arg."
        ) from cause
    loaded = {_place(own[name]) for name in weights if name in own}
    missing = [
        name
        for name in result.missing_keys
        if not name.endswith("num_batches_tracked") and _place(own[name]) not in loaded
    ]
    unexpected = list(result.unexpected_keys)
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(
                f"{len(missing)} of the network's weights are missing: {_first(missing)}"
            )
        if unexpected:
            near = _nearest(unexpected[0], missing or own)
            parts.append(f"{len(unexpected)} are unknown to it: {_first(unexpected)}{near}")
        raise CheckpointError(
            f"{path}: the weights do not fit {model}: {'; '.join(parts)}."
            f" {_advice(weights, own)}"
        )


def _advice(weights: Weights, own: Weights) -> str:
    """Returns what to do about names that do not fit."""
    needed = {name for name in own if not name.endswith("num_batches_tracked")}
    begins: dict[str, set[str]] = {}
    for name in weights:
        parts = name.split(".")
        for count in range(1, min(len(parts), 4)):
            begin = ".".join(parts[:count]) + "."
            begins.setdefault(begin, set()).add(name.removeprefix(begin))
    fitting = [begin for begin, names in begins.items() if names & needed == needed]
    if not fitting:
        return "Is it the right network? Check --model and --model-arg."
    listed = " and ".join(shown(begin) for begin in fitting[:10])
    return f"They fit behind the prefix {listed}: add --weights {fitting[0][:60]}"


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    """Returns what two names of one tensor have in common."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _is_weights(value: object) -> TypeGuard[Mapping[str, torch.Tensor]]:
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and all(isinstance(item, torch.Tensor) for item in value.values())
    )


def _without_wrappers(path: Path, weights: Weights, own: Iterable[str]) -> Weights:
    own_words = {word for name in own for word in name.split(".")}
    words = WRAPPER_WORDS - own_words
    # AveragedModel keeps its own counter beside the wrapped network.
    if "n_averaged" not in own_words:
        weights = {name: value for name, value in weights.items() if name != "n_averaged"}
    found: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        bare = ".".join(part for part in name.split(".") if part not in words)
        if bare in found:
            raise CheckpointError(
                f"{path}: two weights are called {shown(bare)} once the words of wrappers are"
                " taken off. Save the state_dict of the network itself."
            )
        found[bare] = value
    return found


def _renamed(module: nn.Module, weights: Weights) -> Weights:
    """Returns weights by the network's names, where transformers knows what they were called.

    Its ``save_pretrained`` writes the names of older versions, which other programs read.
    """
    library = sys.modules.get("transformers")
    base = getattr(library, "PreTrainedModel", None)
    if base is None or not isinstance(module, base):
        return weights
    types = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(types) != 1:
        return weights
    try:
        with redirect_stderr(StringIO()):  # it draws a bar
            renamed, told = type(module).from_pretrained(
                None,
                config=module.config,
                state_dict=dict(weights),
                dtype=types.pop(),
                output_loading_info=True,
            )
    except Exception:  # whatever it says of weights that are another network's
        return weights
    found: Weights = weights if any(told.values()) else renamed.state_dict()
    return found


def _check_tensors(path: Path, weights: Weights, own: Weights, model: str) -> None:
    import torch

    wrong = []
    for name, value in weights.items():
        problem = _problem(value)
        if problem is not None:
            raise CheckpointError(
                f"{path}: {shown(name)} is {problem}. Save plain numbers, e.g."
                " model.float().state_dict()."
            )
        target = own.get(name)
        if target is None:
            continue
        if value.shape != target.shape:
            wrong.append(f"{name} is {_shape(value)}, the network's {_shape(target)}")
        elif torch.promote_types(value.dtype, target.dtype) != target.dtype:
            raise CheckpointError(
                f"{path}: {name!r} is {_dtype(value)}, the network's {_dtype(target)}: loading"
                " it would lose precision. Save the checkpoint in the network's type,"
                " e.g. model.float().state_dict()."
            )
        elif value.is_floating_point() and bool(value.isnan().any()):
            raise CheckpointError(
                f"{path}: {name!r} holds NaN (not a number): the training diverged or the file"
                " is damaged. Take an earlier checkpoint."
            )
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise CheckpointError(
            f"{path}: {len(wrong)} weights have another shape than those of {model}:"
            f" {'; '.join(wrong[:_SHOWN])}{more}. Check --model-arg."
        )


def _problem(value: torch.Tensor) -> str | None:
    """Returns why a tensor cannot be computed with as it is; None if it can."""
    import torch

    if value.is_meta:
        return "a tensor without values (of the device 'meta')"
    if value.is_nested or value.layout is not torch.strided:
        return "nested" if value.is_nested else f"{value.layout}".removeprefix("torch.")
    if value.is_quantized or _UNREADABLE.fullmatch(_dtype(value)):
        return f"{_dtype(value)}, whose numbers mean nothing without their scales"
    return None


def _first(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return f"{shown} ..." if len(names) > _SHOWN else shown


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (nearest to the first: {near[0]!r})" if near else ""


def _shape(value: torch.Tensor) -> str:
    return "x".join(str(size) for size in value.shape) or "a single number"


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")

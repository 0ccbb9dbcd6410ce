"""Finding the weights in a checkpoint and putting them into the network."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch
    from torch import nn

    Weights = Mapping[str, torch.Tensor]

NESTING_KEYS = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
)
"""Where training scripts put the weights beside the optimizer's state."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel, AveragedModel and torch.compile put before every name."""

_SHOWN = 3


def find_weights(path: Path, content: object) -> dict[str, torch.Tensor]:
    """Returns the state_dict in a loaded checkpoint, at its top or nested.

    Raises:
        CheckpointError: There is none, or there are several to choose from.
    """
    if isinstance(content, Mapping):
        if _is_weights(content):
            return dict(content)
        nested = [key for key in NESTING_KEYS if _is_weights(content.get(key))]
        if len(nested) > 1:
            listed = " and ".join(repr(key) for key in nested)
            raise CheckpointError(
                f"{path}: holds several sets of weights, {listed}. Save the one you mean:"
                f"\n  torch.save(torch.load({path.name!r})[{nested[-1]!r}], 'weights.pt')"
            )
        if nested:
            return dict(content[nested[0]])
        keys = ", ".join(repr(key) for key in list(content)[:10]) or "nothing"
        found = f"a dict with {keys}"
    else:
        found = f"an object of class {type(content).__name__!r}"
    raise CheckpointError(
        f"{path}: holds no weights: found {found}. Expected a state_dict (names to tensors),"
        f" at the top or under one of {', '.join(NESTING_KEYS[:4])} ..."
        " Save one: torch.save(model.state_dict(), 'weights.pt')"
    )


def load_weights(path: Path, module: nn.Module, weights: Weights, model: str) -> None:
    """Puts ``weights`` into ``module``, all of them and nothing else.

    A wrapper's prefix before every name (``module.``, ``_orig_mod.``) is taken off where the
    network's own names lack it. Batch-norm counters (``num_batches_tracked``) may be missing:
    nothing reads them in eval mode.

    Raises:
        CheckpointError: Names or shapes do not fit, a value would lose precision, or a
            parameter holds NaN.
    """
    own = module.state_dict()
    weights = _without_wrapper(weights, own)
    _check_tensors(path, weights, own, model)
    try:
        result = module.load_state_dict(dict(weights), strict=False)
    except RuntimeError as cause:
        reason = " ".join(str(cause).split())[:300]
        raise CheckpointError(
            f"{path}: the weights do not fit {model}: {reason}. Check --model and --model-arg."
        ) from cause
    missing = [
        name for name in result.missing_keys if not name.endswith("num_batches_tracked")
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
            " Is it the right network? Check --model and --model-arg."
        )


def _is_weights(value: object) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and all(isinstance(item, torch.Tensor) for item in value.values())
    )


def _without_wrapper(weights: Weights, own: Iterable[str]) -> Weights:
    own_names = set(own)
    # AveragedModel keeps its own counter beside the wrapped network.
    if "n_averaged" in weights and "n_averaged" not in own_names:
        weights = {name: value for name, value in weights.items() if name != "n_averaged"}
    stripped = True
    while stripped:
        stripped = False
        for prefix in WRAPPER_PREFIXES:
            wrapped = bool(weights) and all(name.startswith(prefix) for name in weights)
            if wrapped and not any(name.startswith(prefix) for name in own_names):
                weights = {n.removeprefix(prefix): value for n, value in weights.items()}
                stripped = True
    return weights


def _check_tensors(path: Path, weights: Weights, own: Weights, model: str) -> None:
    import torch

    wrong = []
    for name, value in weights.items():
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

"""The model libraries that a checkpoint may name. ``LIBRARIES`` is the registry.

None of them may download anything: the weights come from the checkpoint.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import re
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import CheckpointError, ExtraMissingError
from skipc.compiler.recipes import find_recipe
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from torch import nn

    Built = tuple[nn.Module, tuple[TensorSpec, ...]]
    Build = Callable[[str, Mapping[str, object]], Built]


_ELSEWHERE = re.compile(
    r"(use_)?pretrained(_(cfg|backbone|model|weights)\w*)?|weights(_backbone)?"
    r"|checkpoint(_path)?|_?\w*name_or_path|cache_dir|quantization_config|kernel_config"
    r"|use_kernels?|auto_map|trust_remote_code"
)
"""Arguments that name, or switch on, weights or code of somebody else's."""

_IMPLEMENTATIONS = {
    "attn_implementation": ("eager", "sdpa"),
    "experts_implementation": ("eager", "batched_mm", "grouped_mm"),
}
"""What is in the library itself; "flash_attention_2" is looked for on a hub."""

_LABELS = ("id2label", "label2id")
"""Words for people, which may hold anything."""


def _timm(name: str, arguments: Mapping[str, object]) -> Built:
    """Builds ``timm.create_model(name, pretrained=False, **arguments)``."""
    timm: Any = _library("timm", "timm")
    _check_values("timm", arguments)
    # Names such as "hf-hub:…" make timm fetch a configuration; a tag (".a1_in1k") is fine.
    models = timm.list_models()
    if name.partition(".")[0] not in models:
        raise CheckpointError(f"timm has no model {name!r}. {choices_text(name, models)}")
    module = timm.create_model(name, pretrained=False, **arguments)
    config = getattr(module, "pretrained_cfg", None)
    size = config.get("input_size") if isinstance(config, dict) else None
    if not isinstance(size, (tuple, list)):
        return module, ()
    return module, (TensorSpec("", "float32", (1, *(int(n) for n in size))),)


def _torchvision(name: str, arguments: Mapping[str, object]) -> Built:
    """Builds ``torchvision.models.get_model(name, weights=None, **arguments)``."""
    models: Any = _library("torchvision.models", "torchvision")
    _check_values("torchvision", arguments)
    if name not in models.list_models():
        raise CheckpointError(
            f"torchvision has no model {name!r}. {choices_text(name, models.list_models())}"
        )
    # The default of weights_backbone is a download, even where weights is None.
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    backbone = {"weights_backbone": None} if "weights_backbone" in parameters else {}
    return models.get_model(name, weights=None, **backbone, **arguments), ()


def _transformers(name: str, arguments: Mapping[str, object]) -> Built:
    """Builds the class ``name`` from its own configuration class.

    Dotted arguments reach nested configurations (``vision_config.hidden_size=64``).
    """
    transformers: Any = _library("transformers", "transformers")
    _check_values("transformers", arguments)
    if not hasattr(transformers, name):
        names = [n for n in dir(transformers) if n.endswith("Model") or "For" in n]
        raise CheckpointError(f"transformers has no {name!r}. {choices_text(name, names)}")
    factory = getattr(transformers, name)
    base = transformers.PreTrainedModel
    config_class = getattr(factory, "config_class", None)
    if not isinstance(factory, type) or not issubclass(factory, base) or config_class is None:
        raise CheckpointError(
            f"'transformers:{name}' is not a network with a configuration of its own."
            " Name the network's class, e.g. transformers:ResNetForImageClassification."
        )
    config = _configuration(f"transformers:{name}", config_class, _nested(name, arguments))
    _refuse_pretrained(f"transformers:{name}", config, "")
    return factory(config), _image_input(factory, config)


def _recipe(name: str, arguments: Mapping[str, object]) -> Built:
    """Builds a network of ours."""
    recipe = find_recipe(name)
    return recipe.load()(**arguments), recipe.inputs


LIBRARIES: dict[str, Build] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
    "skipc": _recipe,
}


def _library(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as cause:
        if (cause.name or "").partition(".")[0] != package:
            raise
        raise ExtraMissingError(
            f"the model is of {package!r}, which is not installed."
            f" Install it with: pip install {package}"
        ) from cause


def _check_values(library: str, arguments: Mapping[str, object]) -> None:
    """Refuses arguments that make a library look for code or weights elsewhere.

    A name that is harmless today may reach a hub in the next release, so what text may say is
    checked, too: no argument of a network is a path, an address or OWNER/REPOSITORY.
    """
    pending = list(arguments.items())
    while pending:
        key, value = pending.pop()
        last = key.rpartition(".")[2]
        known = _IMPLEMENTATIONS.get(last.removeprefix("_"))
        if _ELSEWHERE.fullmatch(last) and value not in (None, False):
            raise CheckpointError(
                f"--model-arg {key} would make {library} load weights or code of its own."
                " Weights come from the checkpoint: leave it out."
            )
        if known is not None and value not in (None, *known):
            raise CheckpointError(
                f"--model-arg {key}={shown(value)}: {library} would look for that elsewhere;"
                f" what it has in itself is {' and '.join(map(repr, known))}."
            )
        if last in _LABELS:
            continue
        if isinstance(value, str) and re.search(r"[/\\:]", value):
            raise CheckpointError(
                f"--model-arg {key}={shown(value)}: names a path, an address or a repository,"
                f" where {library} could look for code or weights. Leave it out."
            )
        if isinstance(value, dict):
            pending += [(f"{key}.{name}", inner) for name, inner in value.items()]
        elif isinstance(value, list):
            pending += [(key, inner) for inner in value]


def _nested(name: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """Returns the arguments with dotted names folded into objects."""
    values: dict[str, object] = {}
    for key, value in arguments.items():
        *outer, last = key.split(".")
        place = values
        for part in outer:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise CheckpointError(
                    f"--model-arg {key}: {part!r} of 'transformers:{name}' was already given"
                    f" as {inner!r}. Give the object or its parts, not both."
                )
            place = inner
        if last in place:
            raise CheckpointError(
                f"--model-arg {key}: already given for 'transformers:{name}'. Give it once."
            )
        place[last] = value
    return values


def _configuration(model: str, config_class: Any, values: Mapping[str, object]) -> Any:
    """Returns the configuration with ``values``, nested ones checked by their own class.

    Refused are unknown keys, which would be swallowed unseen, and values that come out others.
    """
    default = None
    # A configuration without defaults: its signature has to do.
    with contextlib.suppress(Exception):
        default = config_class()
    values = copy.deepcopy(dict(values))
    _check_keys(model, config_class, default, values, "")
    config = config_class(**values)
    _check_taken(model, config, values, "")
    return config


def _check_keys(
    model: str, config_class: Any, default: Any, values: Mapping[str, object], place: str
) -> None:
    known = set(inspect.signature(config_class.__init__).parameters) - {"self", "kwargs"}
    known |= set(config_class.attribute_map) | {"num_labels", "attn_implementation"}
    known |= set(vars(default) if default is not None else ())
    known = {key for key in known if not key.startswith("_")}
    for key, value in values.items():
        if key not in known:
            raise CheckpointError(
                f"--model-arg {place}{key}: {config_class.__name__} of {model!r} has no"
                f" {key!r}. {choices_text(key, known)}"
            )
        if not isinstance(value, dict):
            continue
        inner = getattr(default, key, None)
        kind = value.get("model_type", getattr(inner, "model_type", None))
        found = _inner_class(config_class, key, inner, kind)
        if found is not None:
            inner = inner if type(inner) is found else None
            if inner is not None:  # some classes look their parts up by it
                value.setdefault("model_type", found.model_type)
            rest = {name: each for name, each in value.items() if name != "model_type"}
            _check_keys(model, found, inner, rest, f"{place}{key}.")


def _inner_class(config_class: Any, key: str, default: Any, kind: object) -> Any:
    """Returns the class of a nested configuration, None where what lies there is none."""
    import transformers

    if isinstance(default, transformers.PreTrainedConfig) and default.model_type == kind:
        return type(default)
    declared = getattr(config_class, "sub_configs", {}).get(key)
    if declared not in (None, transformers.AutoConfig):
        return declared
    if declared is None and default is not None:
        return None
    kinds: Any = transformers.CONFIG_MAPPING
    if kind not in kinds:
        raise CheckpointError(
            f"--model-arg {key}.model_type: {config_class.__name__} takes configurations of"
            f" several kinds there, found {shown(kind)}. {choices_text(str(kind), kinds)}"
        )
    return kinds[kind]


def _check_taken(model: str, config: Any, values: Mapping[str, object], place: str) -> None:
    """Refuses what the library replaced by something else."""
    for key, value in values.items():
        held = getattr(config, key, value)
        if isinstance(value, dict):
            if not isinstance(held, dict):
                _check_taken(model, held, value, f"{place}{key}.")
        elif isinstance(value, (int, float)) and isinstance(held, (int, float)):
            if held == value:
                continue
            raise CheckpointError(
                f"--model-arg {place}{key}={value}: {model!r} makes {held} of it."
                " Leave it out, or give what it depends on."
            )


def _refuse_pretrained(model: str, config: Any, place: str) -> None:
    """Refuses a configuration that names weights or a network of somebody else's."""
    for key, value in list(vars(config).items()):
        if hasattr(value, "to_diff_dict"):
            _refuse_pretrained(model, value, f"{place}{key}.")
    if getattr(config, "use_pretrained_backbone", False):
        raise CheckpointError(
            f"{model!r} would download a backbone's weights. Weights come from the checkpoint:"
            f" add --model-arg {place}use_pretrained_backbone=false"
        )
    backbone = getattr(config, "backbone", None)
    if backbone is not None and not getattr(config, "use_timm_backbone", False):
        raise CheckpointError(
            f"{model!r} would ask a hub for the backbone {shown(backbone)}. Describe it"
            f" instead: --model-arg {place}backbone_config.KEY=VALUE"
        )


def _image_input(factory: Any, config: Any) -> tuple[TensorSpec, ...]:
    size: Any = getattr(config, "image_size", None)
    channels = getattr(config, "num_channels", None)
    if isinstance(size, int):
        size = (size, size)
    pair = isinstance(size, (list, tuple)) and len(size) == 2
    if factory.main_input_name != "pixel_values" or not pair or not isinstance(channels, int):
        return ()
    return (TensorSpec("pixel_values", "float32", (1, channels, *(int(n) for n in size))),)

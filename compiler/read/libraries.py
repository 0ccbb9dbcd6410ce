"""The model libraries that a checkpoint may name. ``LIBRARIES`` is the registry.

None of them may download anything: the weights come from the checkpoint.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import CheckpointError, ExtraMissingError
from skipc.compiler.recipes import find_recipe
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import ModuleType

    from torch import nn

    Built = tuple[nn.Module, tuple[TensorSpec, ...]]
    Build = Callable[[str, Mapping[str, object]], Built]


def _timm(name: str, arguments: Mapping[str, object]) -> Built:
    """Builds ``timm.create_model(name, pretrained=False, **arguments)``."""
    timm: Any = _library("timm", "timm")
    _refuse_downloads("timm", arguments, ("pretrained", "checkpoint_path", "pretrained_cfg"))
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
    refused = ("weights", "weights_backbone", "pretrained", "pretrained_backbone")
    _refuse_downloads("torchvision", arguments, refused)
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

    Dotted arguments reach nested configurations (``vision_config.hidden_size=64``). The
    input of an image network is known where its configuration has ``image_size`` and
    ``num_channels``.
    """
    transformers: Any = _library("transformers", "transformers")
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
    values = _nested(name, arguments)
    _check_config_keys(name, config_class, values)
    config = config_class(**values)
    if getattr(config, "use_pretrained_backbone", False):
        raise CheckpointError(
            f"'transformers:{name}' would download a backbone's weights. Weights come from the"
            " checkpoint: add --model-arg use_pretrained_backbone=false"
        )
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


def _refuse_downloads(
    library: str, arguments: Mapping[str, object], refused: Collection[str]
) -> None:
    for name in refused:
        if name in arguments:
            raise CheckpointError(
                f"--model-arg {name} would make {library} load weights of its own."
                " Weights come from the checkpoint: leave it out."
            )


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


def _check_config_keys(name: str, config_class: Any, values: Mapping[str, object]) -> None:
    """Refuses what the configuration does not have: it would be swallowed unseen."""
    known = set(inspect.signature(config_class.__init__).parameters) - {"self", "kwargs"}
    known |= set(config_class.attribute_map) | {"num_labels", "attn_implementation"}
    # A configuration without defaults: its signature has to do.
    with contextlib.suppress(Exception):
        known |= set(vars(config_class()))
    known = {key for key in known if not key.startswith("_")}
    inner_classes = getattr(config_class, "sub_configs", {})
    for key, value in values.items():
        if key not in known:
            raise CheckpointError(
                f"--model-arg {key}: {config_class.__name__} of 'transformers:{name}' has no"
                f" {key!r}. {choices_text(key, known)}"
            )
        if key in inner_classes and isinstance(value, dict):
            _check_config_keys(name, inner_classes[key], value)


def _image_input(factory: Any, config: Any) -> tuple[TensorSpec, ...]:
    size: Any = getattr(config, "image_size", None)
    channels = getattr(config, "num_channels", None)
    if isinstance(size, int):
        size = (size, size)
    pair = isinstance(size, (list, tuple)) and len(size) == 2
    if factory.main_input_name != "pixel_values" or not pair or not isinstance(channels, int):
        return ()
    return (TensorSpec("pixel_values", "float32", (1, channels, *(int(n) for n in size))),)

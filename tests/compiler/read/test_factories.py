from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch import nn

from skipc.compiler.errors import CheckpointError, ExtraMissingError
from skipc.compiler.extras import require
from skipc.compiler.read.factories import build_model, build_named, parse_arguments
from skipc.compiler.read.survival import survival_from_modules
from skipc.runtime.bundle.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

USER_CODE = """
import torch.nn as nn

def make(width=4):
    return nn.Linear(width, 2)

def broken(width=4):
    raise RuntimeError(f"no width of {width}")

def nothing():
    return None

network = nn.Linear(2, 2)

class Zoo:
    small = make
"""


@pytest.fixture
def user_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"user_code_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(USER_CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_arguments_are_json_or_text() -> None:
    pairs = [("a", "[8,16]"), ("b", "basic"), ("c", "true"), ("d", "0.5"), ("e", '"7"')]
    assert parse_arguments(pairs) == {
        "a": [8, 16],
        "b": "basic",
        "c": True,
        "d": 0.5,
        "e": "7",
    }


@pytest.mark.parametrize(
    ("pairs", "fragment"),
    [
        ([("a", "1"), ("a", "2")], "is given twice"),
        ([("", "1")], "has no name"),
        ([("a", "True")], "Write a=true"),
        ([("a", "[1,2")], "not valid JSON"),
        ([("a", "(1,2)")], r"lists as \[8,16\]"),
    ],
)
def test_arguments_are_refused_when_ambiguous(
    pairs: list[tuple[str, str]], fragment: str
) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        parse_arguments(pairs)


def test_model_is_built_by_the_users_factory(user_code: str) -> None:
    built = build_model(f"{user_code}:make", {"width": 6})
    assert isinstance(built.module, nn.Linear)
    assert built.module.in_features == 6
    assert built.model == f"{user_code}:make(width=6)"
    assert isinstance(build_model(f"{user_code}:Zoo.small", {}).module, nn.Linear)


@pytest.mark.parametrize(
    ("factory", "fragment"),
    [
        ("broken", r"failed in user_code\S+, line 8: RuntimeError: no width of 4"),
        ("nothing", "returned None, expected a torch.nn.Module"),
        ("network", "expected a factory"),
        ("mke", "Did you mean 'make'"),
        ("Zoo.large", "has no 'large'"),
    ],
)
def test_model_is_refused_when_the_factory_is_wrong(
    user_code: str, factory: str, fragment: str
) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        build_model(f"{user_code}:{factory}", {})


def test_model_is_refused_when_an_argument_is_unknown(user_code: str) -> None:
    with pytest.raises(CheckpointError, match="unexpected keyword argument 'widht'"):
        build_model(f"{user_code}:make", {"widht": 6})


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("import nowhere_at_all", "Install what it imports"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
    ],
)
def test_model_is_refused_when_the_import_fails(
    user_code: str, text: str, fragment: str
) -> None:
    Path(f"bad_{user_code}.py").write_text(text)
    with pytest.raises(CheckpointError, match=fragment):
        build_model(f"bad_{user_code}:make", {})


@pytest.mark.parametrize(
    ("spec", "fragment"),
    [
        ("resnet50", "names no factory"),
        ("a:", "names no factory"),
        ("no_such_module_here:make", "there is no module 'no_such_module_here'"),
    ],
)
def test_model_is_refused_when_it_names_nothing(spec: str, fragment: str) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        build_model(spec, {})


def test_named_model_is_refused_when_it_would_import_code(user_code: str) -> None:
    with pytest.raises(CheckpointError, match="a checkpoint never names code"):
        build_named(f"{user_code}:make", {})


def test_recipe_brings_its_inputs() -> None:
    built = build_named("skipc:resnet", {"widths": [4, 4, 4]})
    assert built.inputs == (TensorSpec("images", "float32", (1, 1, 8, 8)),)
    with pytest.raises(CheckpointError, match="Did you mean 'resnet'"):
        build_named("skipc:resnett", {})


def test_transformers_class_is_built_from_its_config() -> None:
    arguments = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}
    built = build_model("transformers:ResNetForImageClassification", arguments)
    assert built.module.config.hidden_sizes == [8, 16]  # type: ignore[union-attr]
    assert built.inputs == ()


def test_transformers_image_network_brings_its_input() -> None:
    arguments = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 32,
        "num_labels": 3,
    }
    built = build_model("transformers:ViTForImageClassification", arguments)
    assert built.inputs == (TensorSpec("pixel_values", "float32", (1, 3, 32, 32)),)
    assert built.module.config.num_labels == 3  # type: ignore[union-attr]


def test_transformers_dotted_argument_reaches_the_nested_config() -> None:
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    arguments: dict[str, object] = {
        **{f"vision_config.{key}": value for key, value in small.items()},
        **{f"text_config.{key}": value for key, value in small.items()},
        "text_config.vocab_size": 10,
        "vision_config.intermediate_size": 8,
        "vision_config.image_size": 32,
        "vision_config.patch_size": 16,
    }
    built = build_model("transformers:CLIPModel", arguments)
    assert built.module.config.vision_config.hidden_size == 8  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "arguments", "fragment"),
    [
        ("ResNetForImageClasification", {}, "Did you mean 'ResNetForImageClassification'"),
        ("ResNetConfig", {}, "not a network with a configuration"),
        ("AutoModel", {}, "not a network with a configuration"),
        ("ViTModel", {"hiden_size": 8}, "Did you mean 'hidden_size'"),
        ("ViTModel", {"hidden_size": "wide"}, "expected int, got str"),
        ("CLIPModel", {"vision_config.hiden_size": 8}, "Did you mean 'hidden_size'"),
        ("CLIPModel", {"vision_config": 1, "vision_config.hidden_size": 8}, "not both"),
        ("ViTModel", {"hidden_size": 7}, "ZeroDivisionError"),
    ],
)
def test_transformers_class_is_refused_when_wrong(
    name: str, arguments: dict[str, object], fragment: str
) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        build_model(f"transformers:{name}", arguments)


# To import torch in a process of its own takes seconds: what needs one is asked of one.
@pytest.fixture
def libraries_gone() -> Iterator[None]:
    """Takes timm and torchvision away, and afterwards what a test put in their places."""

    def taken() -> dict[str, ModuleType]:
        names = [n for n in sys.modules if n.partition(".")[0] in ("timm", "torchvision")]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    yield
    taken()
    sys.modules.update(before)


@pytest.mark.usefixtures("libraries_gone")
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_library_is_named_when_it_is_not_installed(library: str) -> None:
    sys.modules[library] = None  # type: ignore[assignment]
    with pytest.raises(ExtraMissingError, match=f"pip install {library}"):
        build_named(f"{library}:resnet18", {})


TIMM = """
from torch import nn
def list_models(): return ["resnet18", "vit_tiny"]
def create_model(name, pretrained=True, **arguments):
    assert pretrained is False
    model = nn.Linear(3, arguments.get("num_classes", 10))
    model.pretrained_cfg = {"input_size": (3, 224, 224)}
    return model
"""

TORCHVISION = """
from torch import nn
def _fcn(weights="COCO", weights_backbone="IMAGENET", width=3):
    assert weights is None and weights_backbone is None
    return nn.Linear(width, 2)
def _resnet(weights="IMAGENET", width=3):
    assert weights is None
    return nn.Linear(width, 2)
_ALL = {"fcn": _fcn, "resnet18": _resnet}
def list_models(): return list(_ALL)
def get_model_builder(name): return _ALL[name]
def get_model(name, **config): return _ALL[name](**config)
"""


@pytest.mark.usefixtures("libraries_gone")
def test_models_of_libraries_are_built_without_downloading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text(TIMM)
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("")
    (tmp_path / "torchvision" / "models.py").write_text(TORCHVISION)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("fcn", "resnet18"):
        linear = build_named(f"torchvision:{name}", {"width": 7}).module
        assert isinstance(linear, nn.Linear)
        assert linear.in_features == 7
    built = build_named("timm:resnet18.a1_in1k", {"num_classes": 5})
    assert isinstance(built.module, nn.Linear)
    assert built.module.out_features == 5
    assert built.inputs[0].shape == (1, 3, 224, 224)
    for spec, arguments, said in (
        ("timm:hf-hub:someone/x", {}, "timm has no model 'hf-hub:someone/x'"),
        ("timm:resnt18", {}, "Did you mean 'resnet18'"),
        ("timm:resnet18", {"pretrained": True}, "pretrained would make timm load weights"),
        ("torchvision:resnet81", {}, "Did you mean 'resnet18'"),
        (
            "torchvision:fcn",
            {"weights_backbone": "DEFAULT"},
            "weights_backbone would make torchvision load weights",
        ),
    ):
        with pytest.raises(CheckpointError, match=re.escape(said)):
            build_named(spec, arguments)


def test_survival_is_read_from_stochastic_depth_modules() -> None:
    class MyDropPath(nn.Module):
        def __init__(self, drop_prob: float | None) -> None:
            super().__init__()
            self.drop_prob = drop_prob

    class StochasticDepth(nn.Module):
        def __init__(self, p: float) -> None:
            super().__init__()
            self.p = p

    class LayerDrop_Connect(nn.Module):  # noqa: N801
        survival_prob = 0.75

    module = nn.Sequential(
        nn.Linear(1, 1),
        MyDropPath(0.2),
        MyDropPath(None),
        StochasticDepth(0.5),
        LayerDrop_Connect(),
        nn.Dropout(0.3),
    )
    assert survival_from_modules(module) == {"1": 0.8, "2": 1.0, "3": 0.5, "4": 0.75}


def test_extra_is_named_when_its_module_is_missing() -> None:
    with pytest.raises(ExtraMissingError, match=r"pip install '\.\[compiler\]'"):
        require("no_such_package.inner", "compiler")

"""Networks as the transformers library writes them, tiny; no adapter may be needed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import transformers

from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.zoo.net import Net

if TYPE_CHECKING:
    from torch import nn

MOBILENET_RESIDUALS = (1, 3, 4)


def pixels(size: int, first: int | str = 1) -> tuple[TensorSpec, ...]:
    return (TensorSpec("pixel_values", "float32", (first, 3, size, size)),)


def tokens(*names: str, first: int | str = 1) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, "int64", (first, 8)) for name in names)


def build(name: str, **settings: Any) -> nn.Module:
    """Returns the transformers class ``name`` built from its own config class."""
    cls = getattr(transformers, name)
    model: nn.Module = cls(cls.config_class(**settings))
    return model


def resnet_basic() -> nn.Module:
    return build(
        "ResNetForImageClassification",
        depths=[2, 2],
        hidden_sizes=[8, 12],
        embedding_size=8,
        layer_type="basic",
        num_labels=5,
    )


def resnet_bottleneck() -> nn.Module:
    return build(
        "ResNetForImageClassification",
        depths=[1, 2],
        hidden_sizes=[16, 24],
        embedding_size=8,
        num_labels=5,
    )


def regnet() -> nn.Module:
    return build(
        "RegNetForImageClassification",
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 2],
        groups_width=8,
        num_labels=5,
    )


def convnext() -> nn.Module:
    return build(
        "ConvNextForImageClassification",
        num_stages=2,
        hidden_sizes=[8, 12],
        depths=[2, 1],
        num_labels=5,
    )


def mobilenet_v2() -> nn.Module:
    """The first five of its 16 layers, all of the least width."""
    model = build(
        "MobileNetV2ForImageClassification",
        image_size=32,
        depth_multiplier=0.01,
        num_labels=5,
    )
    del model.get_submodule("mobilenet_v2.layer")[5:]
    return model


def bit() -> nn.Module:
    """Pads with zeros before a max pooling of numbers that may all be negative."""
    return build(
        "BitForImageClassification",
        embedding_size=8,
        hidden_sizes=[16, 32],
        depths=[1, 2],
        num_groups=4,
        num_labels=5,
    )


def vit() -> nn.Module:
    return build(
        "ViTForImageClassification",
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        num_labels=5,
    )


def swin() -> nn.Module:
    return build(
        "SwinForImageClassification",
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[2, 1],
        num_heads=[2, 2],
        window_size=4,
        num_labels=5,
    )


def dinov2() -> nn.Module:
    return build(
        "Dinov2ForImageClassification",
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        num_labels=5,
    )


def bert(layers: int = 1) -> nn.Module:
    return build(
        "BertForSequenceClassification",
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=50,
        num_labels=5,
    )


def _blocks(branch: str, *paths: str) -> dict[str, str]:
    """Returns units that are whole modules, whose branch is the child ``branch``."""
    return {path: f"{path}.{branch}" for path in paths}


def _layers(layer: str, count: int, **branches: str) -> dict[str, str]:
    """Returns the units of transformer layers: by child, the module to set to zero."""
    return {
        f"{layer}.{i}.{child}": f"{layer}.{i}.{zeroed}"
        for i in range(count)
        for child, zeroed in branches.items()
    }


RESNET_UNITS = _blocks(
    "layer", *(f"resnet.encoder.stages.{stage}.layers.{i}" for stage in (0, 1) for i in (0, 1))
)
BOTTLENECK_UNITS = _blocks(
    "layer",
    *(f"resnet.encoder.stages.{at}" for at in ("0.layers.0", "1.layers.0", "1.layers.1")),
)

BERT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BERT_REJECTED = ("different inputs", "different inputs", "the shape changes")

LIBRARY_NETS = (
    Net("resnet-bottleneck", resnet_bottleneck, BOTTLENECK_UNITS, pixels(32)),
    Net(
        "regnet",
        regnet,
        _blocks(
            "layer",
            "regnet.encoder.stages.0.layers.0",
            "regnet.encoder.stages.1.layers.0",
            "regnet.encoder.stages.1.layers.1",
        ),
        pixels(32),
    ),
    Net(
        "convnext",
        convnext,
        _blocks(
            "pwconv2",
            "convnext.encoder.stages.0.layers.0",
            "convnext.encoder.stages.0.layers.1",
            "convnext.encoder.stages.1.layers.0",
        ),
        pixels(32),
    ),
    Net(
        "mobilenet-v2",
        mobilenet_v2,
        _blocks("reduce_1x1", *(f"mobilenet_v2.layer.{i}" for i in MOBILENET_RESIDUALS)),
        pixels(32),
    ),
    Net(
        "bit",
        bit,
        {
            "bit.encoder.stages.0.layers.0": "bit.encoder.stages.0.layers.0.conv3",
            "bit.encoder.stages.1.layers.0": "bit.encoder.stages.1.layers.0.conv3",
            "bit.encoder.stages.1.layers.1": "bit.encoder.stages.1.layers.1.conv3",
        },
        pixels(32),
    ),
    Net("vit", vit, _layers("vit.layers", 2, attention="attention", mlp="mlp"), pixels(16)),
    Net(
        "swin",
        swin,
        {
            **_layers("swin.encoder.layers.0.blocks", 2, attention="attention", mlp="mlp"),
            **_layers("swin.encoder.layers.1.blocks", 1, attention="attention", mlp="mlp"),
        },
        pixels(16),
        rejected=("attention scores",) * 2,
    ),
    Net(
        "dinov2",
        dinov2,
        _layers("dinov2.encoder.layer", 1, attention="layer_scale1", mlp="layer_scale2"),
        pixels(28),
    ),
    Net(
        "bert",
        bert,
        _layers(
            "bert.encoder.layer",
            1,
            attention="attention.output.dense",
            intermediate="output.dense",
        ),
        tokens(*BERT_INPUTS),
        rejected=BERT_REJECTED[:2],
        high={"input_ids": 50},
    ),
    Net(
        "bert-any-batch",
        partial(bert, layers=2),
        _layers(
            "bert.encoder.layer",
            2,
            attention="attention.output.dense",
            intermediate="output.dense",
        ),
        tokens(*BERT_INPUTS, first="N"),
        rejected=BERT_REJECTED,
        high={"input_ids": 50},
        dimensions=(Dimension("N", 1, 2, 5),),
    ),
    Net(
        "vit-any-batch",
        vit,
        _layers("vit.layers", 2, attention="attention", mlp="mlp"),
        pixels(16, first="N"),
        dimensions=(Dimension("N", 1, 3, 8),),
    ),
    Net(
        "resnet-any-batch",
        resnet_basic,
        RESNET_UNITS,
        pixels(32, "N"),
        dimensions=(Dimension("N", 2, 3, 8),),
    ),
)

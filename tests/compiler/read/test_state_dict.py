"""Weights as training frameworks leave them, and tensors that are no plain numbers."""

from __future__ import annotations

import resource
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read import ModelOptions, bounds, read_checkpoint
from skipc.compiler.read.factories import build_named, parse_arguments
from skipc.compiler.read.file_format import parse_checkpoint_file
from skipc.compiler.read.libraries import _check_values, _configuration
from skipc.compiler.read.pt2_guard import _check_expression, _in_expression, _in_guard
from skipc.compiler.read.state_dict import find_weights, load_weights
from skipc.compiler.recipes.resnet import ResNet

PATH = Path("w.pt")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 3)
        self.outer.weight = self.inner.weight
        self.blocks = nn.Sequential(*[nn.Linear(3, 3)] * 2)


def loaded(weights: Mapping[str, torch.Tensor], module: nn.Module | None = None) -> nn.Module:
    module = module or Tied()
    load_weights(PATH, module, weights, "net")
    return module


def test_a_tensor_that_is_there_under_another_name_is_not_missing() -> None:
    weights = Tied().state_dict()
    one = {n: w for n, w in weights.items() if n != "outer.weight" and "blocks.1" not in n}
    assert torch.equal(loaded(one).state_dict()["outer.weight"], weights["inner.weight"])
    del one["inner.weight"]
    with pytest.raises(
        CheckpointError, match="2 of the network's weights are missing: 'inner"
    ):
        loaded(one)


def test_names_that_transformers_saves_are_those_of_its_class(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "image_size": 8, "patch_size": 4, "num_labels": 3}
    network = ViTForImageClassification(ViTConfig(**sizes)).eval()
    network.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert not weights.keys() <= network.state_dict().keys(), "it renames none"
    read = ViTForImageClassification(ViTConfig(**sizes)).eval()
    load_weights(PATH, read, weights, "net")
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(read(images).logits, network(images).logits)
    lacking = dict(list(weights.items())[1:])
    with pytest.raises(CheckpointError, match="the weights do not fit net"):
        load_weights(PATH, read, lacking, "net")


@pytest.mark.parametrize(
    "form",
    [
        *("module.{0}.{1}", "{0}.module.{1}", "{0}._orig_mod.{1}"),
        "_fsdp_wrapped_module.{0}._checkpoint_wrapped_module._orig_mod.{1}",
    ],
)
def test_words_of_wrappers_go_wherever_they_stand(form: str) -> None:
    weights = Tied().state_dict()
    wrapped = {form.format(*name.split(".", 1)): value for name, value in weights.items()}
    found = loaded(wrapped).state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_network_keeps_its_own_word() -> None:
    own = nn.ModuleDict({"module": nn.Linear(2, 2)})
    loaded(own.state_dict(), own)
    both = {**own.state_dict(), "module._orig_mod.weight": torch.ones(2, 2)}
    with pytest.raises(CheckpointError, match=r"two weights are called 'module.weight'"):
        loaded(both, own)


def test_another_prefix_is_named_and_taken_off_when_asked() -> None:
    weights = {f"net.model.{name}": value for name, value in Tied().state_dict().items()}
    weights |= {f"ema_model.{name}": value for name, value in Tied().state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"prefix 'net.model.' and 'ema_model.': add --wei"
    ):
        loaded(weights)
    for wanted in ("ema_model.", "ema_model", "net.model"):
        loaded(find_weights(PATH, weights, wanted))
    with pytest.raises(
        CheckpointError, match=r"'ema_modl' is no set .* Did you mean 'ema_mode"
    ):
        find_weights(PATH, weights, "ema_modl")


def test_one_of_several_sets_is_chosen() -> None:
    sets = {"model": Tied().state_dict(), "ema": Tied().state_dict(), "epoch": 3}
    with pytest.raises(
        CheckpointError, match=r"under 'model' and 'ema'. Choose: --weights ema"
    ):
        find_weights(PATH, sets)
    assert find_weights(PATH, sets, "ema")["inner.bias"] is sets["ema"]["inner.bias"]
    one = {"generator": Tied().state_dict()}
    with pytest.raises(CheckpointError, match="Choose: --weights generator"):
        find_weights(PATH, one)
    assert find_weights(PATH, one, "generator")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda w: w.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda w: w.to(torch.float8_e4m3fn).view(torch.bits8), "bits8"),
        (
            lambda w: torch.zeros(3, 3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
            "float4",
        ),
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "qint8"),
        (lambda w: w.to("meta"), "without values"),
        (lambda w: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
        (lambda w: w.to_sparse(), "sparse_coo"),
    ],
)
def test_what_cannot_be_computed_with_is_named(make, said: str) -> None:  # type: ignore[no-untyped-def]
    weights = Tied().state_dict()
    with pytest.raises(CheckpointError, match=f"'inner.weight' is .*{said}"):
        loaded({**weights, "inner.weight": make(weights["inner.weight"])})


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({5: 1}, "has the key 5, expected names"),
        *(
            ({"inputs": [{"name": "x", "shape": s, "dtype": "float32"}]}, "more than the 2147")
            for s in ([1, 1, 2**62, 8], [1, 1, 10**6, 10**6])
        ),
        ({"inputs": [{"name": "x", "shape": [2**70], "dtype": "float32"}]}, "whole number"),
    ],
)
def test_odd_checkpoint_files_are_refused(
    tmp_path: Path, changed: dict[object, object], said: str
) -> None:
    content = {"format": "skipc.checkpoint/1", "model": "skipc:resnet", **changed}  # type: ignore[dict-item]
    weights = ResNet().state_dict()
    torch.save({**content, "state_dict": weights}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path / "c.pt", ModelOptions())


def test_deep_arguments_are_refused() -> None:
    content = {"format": "skipc.checkpoint/1", "model": "skipc:resnet", "state_dict": {}}
    with pytest.raises(CheckpointError, match="not nested deeply"):
        parse_checkpoint_file(PATH, {**content, "arguments": {"widths": nested(5000)}})
    with pytest.raises(CheckpointError, match="not valid JSON"):
        parse_arguments([("a", "[" * 100_000)])


# --- bounds


def test_a_checkpoint_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    content = {"format": "skipc.checkpoint/1", "model": "skipc:resnet"}
    arguments = {"widths": [400_000, 400_000]}
    torch.save(
        {**content, "arguments": arguments, "state_dict": {"a": torch.ones(1)}},
        tmp_path / "c.pt",
    )
    with pytest.raises(CheckpointError, match="memory"):
        read_checkpoint(tmp_path / "c.pt", ModelOptions())
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_building_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BUILD_S", 0.01)
    with pytest.raises(CheckpointError, match=r"not built within 0.01 s"), bounds.bounded(0):
        signal.pause()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_no_connection_is_opened_while_a_network_is_built() -> None:
    import socket

    refused = pytest.raises(CheckpointError, match="a connection to 'localhost'")
    with bounds.offline(), refused:
        socket.create_connection(("localhost", 1))
    with pytest.raises(OSError):  # noqa: PT011  (nobody listens)
        socket.create_connection(("localhost", 1))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"attn_implementation": "someone/kernel"}, "has in itself is 'eager' and 'sdpa'"),
        ({"attn_implementation": "flash_attention_2"}, "has in itself"),
        ({"attn_implementation": {"text_config": "a/b"}}, "has in itself"),
        ({"text_config.attn_implementation": "a/b"}, "has in itself"),
        ({"text_config": {"_attn_implementation": "a/b"}}, "has in itself"),
        ({"experts_implementation": "a/b"}, "has in itself"),
        ({"quantization_config": {"quant_method": "x"}}, "load weights or code"),
        ({"backbone_config": {"auto_map": {}}}, "load weights or code"),
        ({"trust_remote_code": True}, "load weights or code"),
        ({"_name_or_path": "gpt2"}, "load weights or code"),
        ({"weights_backbone": "DEFAULT"}, "load weights or code"),
        ({"pretrained_cfg_overlay": {}}, "load weights or code"),
        ({"checkpoint_path": "w"}, "load weights or code"),
        ({"backbone": "microsoft/resnet-50"}, "a path, an address or a repository"),
        ({"layers": ["hf-hub:a"]}, "a path, an address or a repository"),
    ],
)
def test_arguments_that_reach_elsewhere_are_refused(
    arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        _check_values("transformers", arguments)


def test_plain_arguments_are_not_refused() -> None:
    plain = {"attn_implementation": "eager", "hidden_act": "gelu", "id2label": {"0": "a/b"}}
    _check_values("transformers", {**plain, "use_pretrained_backbone": False, "sizes": [1, 2]})


def test_a_backbone_that_a_hub_would_describe_is_refused() -> None:
    arguments = {"backbone": "resnet-50", "use_timm_backbone": False}
    with pytest.raises(CheckpointError, match=r"hub|has no 'backbone'|failed"):
        build_named("transformers:DPTForDepthEstimation", arguments)


def test_nested_configurations_are_checked_by_their_own_class() -> None:
    from transformers import EncoderDecoderConfig, LlavaConfig

    made = _configuration("m", LlavaConfig, {"text_config": {"hidden_size": 64}})
    assert made.text_config.hidden_size == 64
    with pytest.raises(
        CheckpointError, match=r"text_config.hiden_size.*Did you mean 'hidden_s"
    ):
        _configuration("m", LlavaConfig, {"text_config": {"hiden_size": 64}})
    parts = {"encoder": {"model_type": "bert"}, "decoder": {"model_type": "bert"}}
    parts["encoder"]["hidden_size"] = 48  # type: ignore[assignment]
    assert _configuration("m", EncoderDecoderConfig, parts).encoder.hidden_size == 48
    parts["encoder"]["model_type"] = "bort"
    with pytest.raises(CheckpointError, match=r"encoder.model_type: .*Did you mean"):
        _configuration("m", EncoderDecoderConfig, parts)


@pytest.mark.parametrize("guard", [_in_expression, _in_guard])
@pytest.mark.parametrize(
    "text",
    [
        *("9**9**9", "Pow(Pow(Pow(9, 99), 99), 99)", "1 << 10**9", "1e999", "Pow(2, 1e300)"),
        *("LShift(1, 100000)", "Pow(Symbol('s0'), Symbol('s1'))", "2**s0", "1+" * 3000 + "1"),
        *("9**-9**9", "FloatPow(10, 1e9)", "Pow(exp=Symbol('s1'), base=2)"),
    ],
)
def test_expressions_that_grow_are_refused(guard, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CheckpointError, match="refused, since loading"):
        _check_expression(PATH, text, guard)


@pytest.mark.parametrize(
    "text",
    [
        "Mul(Integer(4), Pow(Symbol('s0', positive=True, integer=True), Integer(2)))",
        *("Pow(Symbol('s0'), Integer(-1))", "s0*4 + 1", "FloatPow(s0, 0.5)", "Mod(s0, 2)"),
        *("Rational(1, 2)", "Max(1, s0 // 2)"),
    ],
)
def test_expressions_of_sizes_are_not_refused(text: str) -> None:
    _check_expression(PATH, text, _in_expression)

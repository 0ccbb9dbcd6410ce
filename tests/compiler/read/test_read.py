from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read import (
    ModelOptions,
    OnnxSupernet,
    ProgramSupernet,
    Supernet,
    TorchSupernet,
    read_checkpoint,
)
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes.resnet import ResNet
from skipc.runtime.bundle.tensors import Dimension, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "skipc:resnet"
ARGS = (("widths", "[4,4,8]"),)
IMAGES = TensorSpec("images", "float32", (1, 1, 8, 8))


def _network() -> ResNet:
    torch.manual_seed(0)
    return ResNet(widths=(4, 4, 8))


def _read(path: Path, **options: object) -> Supernet:
    return read_checkpoint(path, ModelOptions(**options))  # type: ignore[arg-type]


def _read_weights(path: Path) -> TorchSupernet:
    supernet = _read(path, model=MODEL, model_args=ARGS)
    assert isinstance(supernet, TorchSupernet)
    return supernet


def _same(supernet: TorchSupernet, network: nn.Module) -> bool:
    expected = network.state_dict()
    found = supernet.source.state_dict()
    return all(torch.equal(found[name], expected[name]) for name in expected)


def _file(network: nn.Module, **parts: object) -> CheckpointFile:
    arguments = {"widths": [4, 4, 8]}
    return CheckpointFile(MODEL, arguments, network.state_dict(), **parts)  # type: ignore[arg-type]


# --- skipc.checkpoint/1


def test_checkpoint_file_is_read_as_written(tmp_path: Path) -> None:
    network = _network()
    inputs = (TensorSpec("images", "float32", ("N", 1, 8, 8)),)
    batch = (Dimension("N", 1, 2, 4),)
    survival = {"stages.0.0.drop": 0.5}
    file = _file(network, inputs=inputs, dimensions=batch, survival=survival)
    save_checkpoint(tmp_path / "ckpt.pt", file)

    supernet = _read(tmp_path / "ckpt.pt", output="logits")
    assert isinstance(supernet, TorchSupernet)
    assert _same(supernet, network)
    assert not supernet.source.training
    assert supernet.inputs == inputs
    assert (supernet.dimensions, supernet.output) == (batch, "logits")
    assert supernet.model == "skipc:resnet(widths=[4, 4, 8])"
    assert supernet.survival["stages.0.0.drop"] == 0.5
    assert supernet.survival["stages.2.3.drop"] == 0.5
    assert supernet.survival["stages.1.1.drop"] == 0.75
    assert len(supernet.survival) == 12


def test_checkpoint_file_yields_to_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(path, _file(_network(), inputs=(IMAGES,)))
    wide = TensorSpec("", "float32", (2, 1, 16, 16))
    supernet = _read(path, model_args=(("drop", "0"),), inputs=(wide,))
    assert isinstance(supernet, TorchSupernet)
    assert supernet.inputs == (TensorSpec("images", "float32", (2, 1, 16, 16)),)
    assert supernet.survival["stages.2.3.drop"] == 1.0


def test_checkpoint_file_takes_its_inputs_from_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(path, _file(_network()))
    assert _read(path).inputs == (IMAGES,)
    with pytest.raises(CheckpointError, match="no input has a free batch"):
        _read(path, dimensions=(Dimension("N", 1, 2, 4),))


def test_checkpoint_writer_refuses_arguments_that_are_not_json(tmp_path: Path) -> None:
    file = CheckpointFile(MODEL, {"widths": {1, 2}}, _network().state_dict())
    with pytest.raises(CheckpointError, match="must be JSON values"):
        save_checkpoint(tmp_path / "ckpt.pt", file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"model": "my.code:make"}, "a checkpoint never names code"),
        ({"model": ""}, "'model' must be a non-empty string"),
        ({"modle": 1}, "unknown key 'modle'. Did you mean 'model'"),
        ({"format": "skipc.checkpoint/9"}, "this skipc reads 'skipc.checkpoint/1'"),
        ({"arguments": [1]}, "'arguments' must be an object"),
        ({"arguments": {"widths": torch.ones(2)}}, "must hold JSON values"),
        ({"arguments": {"widhts": [4]}}, "unexpected keyword argument 'widhts'"),
        ({"state_dict": 3}, "'state_dict' must be an object"),
        ({"state_dict": {"a": 3}}, "must map names to tensors, found 'a': int"),
        ({"input": {"name": "x", "shape": [1], "dtype": "float32"}}, "both 'input' and"),
        ({"inputs": [{"name": "x", "shape": [1]}]}, "'dtype' is missing"),
        ({"inputs": [{"name": "x", "shape": [0], "dtype": "float32"}]}, "found 0"),
        (
            {"inputs": [{"name": "x", "shape": [1], "dtype": "float"}]},
            "'dtype' is 'float'. Did you mean 'float64'",
        ),
        ({"inputs": [{"name": "x", "shape": ["N"], "dtype": "int8"}]}, "Add --batch"),
        ({"batch": {"minimum": 4, "typical": 1, "maximum": 8}}, "minimum <= typical"),
        ({"survival": {"a": 1.5}}, "survival: 'a' must be a number of at most 1"),
        ({"survival": {"a": "x"}}, "must be a number"),
    ],
)
def test_checkpoint_file_is_refused_when_malformed(
    tmp_path: Path, change: dict[str, object], fragment: str
) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(path, _file(_network(), inputs=(IMAGES,)))
    document = torch.load(path, weights_only=True)
    torch.save({**document, **change}, path)
    with pytest.raises(CheckpointError, match=fragment):
        _read(path)


def test_checkpoint_file_may_give_one_input(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(path, _file(_network()))
    document = torch.load(path, weights_only=True)
    del document["inputs"]
    document["input"] = {"name": "", "shape": [3, 1, 8, 8], "dtype": "float32"}
    torch.save(document, path)
    assert _read(path).inputs == (TensorSpec("images", "float32", (3, 1, 8, 8)),)


# --- weights alone


@pytest.mark.parametrize("nesting", ["", "state_dict", "model", "ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_weights_are_found_when_nested_or_wrapped(
    tmp_path: Path, nesting: str, prefix: str
) -> None:
    network = _network()
    weights = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    content = {nesting: weights, "epoch": 3, "optimizer": {}} if nesting else weights
    torch.save(content, tmp_path / "w.bin")
    assert _same(_read_weights(tmp_path / "w.bin"), network)


def test_weights_are_read_from_older_and_other_files(tmp_path: Path) -> None:
    network = _network()
    weights = network.state_dict()
    save_file(weights, tmp_path / "no_suffix")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    averaged = {f"module.{name}": value for name, value in weights.items()}
    torch.save({**averaged, "n_averaged": torch.tensor(3)}, tmp_path / "averaged.pt")
    for name in ("no_suffix", "old.pth", "averaged.pt"):
        assert _same(_read_weights(tmp_path / name), network)


def test_weights_are_widened_but_never_narrowed(tmp_path: Path) -> None:
    network = _network()
    torch.save(_network().half().state_dict(), tmp_path / "half.pt")
    assert _read_weights(tmp_path / "half.pt").source.head.weight.dtype == torch.float32  # type: ignore[union-attr]
    torch.save({k: v.double() for k, v in network.state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="is float64, the network's float32"):
        _read_weights(tmp_path / "w.pt")


def test_weights_may_lack_batch_norm_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "with_norm.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.BatchNorm2d(1))\n"
    )
    weights = nn.Sequential(nn.BatchNorm2d(1)).state_dict()
    del weights["0.num_batches_tracked"]
    torch.save(weights, tmp_path / "w.pt")
    spec = TensorSpec("", "float32", (1, 1, 4, 4))
    supernet = _read(tmp_path / "w.pt", model="with_norm:make", inputs=(spec,))
    assert supernet.inputs == (TensorSpec("input", "float32", (1, 1, 4, 4)),)


def test_weights_are_refused_when_names_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    weights = _network().state_dict()
    bias = weights.pop("head.bias")
    torch.save({**weights, "haed.bias": bias}, path)
    with pytest.raises(
        CheckpointError, match="1 of the network's weights are missing"
    ) as info:
        _read_weights(path)
    assert "1 are unknown to it: 'haed.bias' (nearest to the first: 'head.bias')" in str(
        info.value
    )
    torch.save({"head.bias": bias}, path)
    with pytest.raises(
        CheckpointError, match=r"'stem.0.0.weight', 'stem.0.1.weight', .* \.\.\."
    ):
        _read_weights(path)
    torch.save({**weights, "head.bias": bias, "a": bias, "b": bias}, path)
    with pytest.raises(CheckpointError, match="2 are unknown to it: 'a', 'b'"):
        _read_weights(path)


def test_weights_are_refused_when_values_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    weights = _network().state_dict()
    torch.save({**weights, "head.bias": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match=r"head\.bias is 3, the network's 10"):
        _read_weights(path)
    torch.save({**weights, "head.bias": torch.full((10,), torch.nan)}, path)
    with pytest.raises(CheckpointError, match=r"'head\.bias' holds NaN"):
        _read_weights(path)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ({}, "found a dict with nothing"),
        ({"epoch": 3}, "found a dict with 'epoch'"),
        ([1, 2], "found an object of class 'list'"),
        (torch.ones(2), "found an object of class 'Tensor'"),
        (
            {"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}},
            "holds weights under 'model' and 'ema'",
        ),
    ],
)
def test_weights_are_refused_when_there_are_none_or_several(
    tmp_path: Path, content: object, fragment: str
) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=fragment):
        _read_weights(tmp_path / "w.pt")


def test_weights_need_a_model(tmp_path: Path) -> None:
    torch.save(OrderedDict(a=torch.ones(1)), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"Add --model PKG\.MODULE:FACTORY"):
        _read(tmp_path / "w.pt")


# --- inputs

TWO_INPUTS = """
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
    def forward(self, tokens, mask, scale=None):
        return self.linear(tokens.float() * mask)

class Any(Two):
    def forward(self, *inputs):
        return self.linear(inputs[0])
"""


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "two_inputs", raising=False)
    (tmp_path / "two_inputs.py").write_text(TWO_INPUTS)
    torch.save(nn.ModuleDict({"linear": nn.Linear(4, 2)}).state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_inputs_take_the_order_of_forward(two: Path) -> None:
    mask = TensorSpec("mask", "float32", ("N", 4))
    tokens = TensorSpec("tokens", "int64", ("N", 4))
    batch = (Dimension("N", 1, 2, 4),)
    supernet = _read(two, model="two_inputs:Two", inputs=(mask, tokens), dimensions=batch)
    assert supernet.inputs == (tokens, mask)


def test_inputs_are_refused_when_forward_does_not_take_them(two: Path) -> None:
    def spec(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
        return TensorSpec(name, dtype, shape)

    cases = {
        "does not say what the inputs": (),
        "Did you mean 'tokens'": (spec("token", 1, 4), spec("mask", 1, 4)),
        "also needs 'mask'": (spec("tokens", 1, 4),),
        "takes 3: tokens, mask, scale": tuple(spec("", 1, 4) for _ in range(4)),
        "does not run on --input tokens=1x3 --input mask=1x3: RuntimeError": (
            spec("tokens", 1, 3),
            spec("mask", 1, 3),
        ),
    }
    for fragment, inputs in cases.items():
        with pytest.raises(CheckpointError, match=fragment):
            _read(two, model="two_inputs:Two", inputs=inputs)
    with pytest.raises(CheckpointError, match="names no parameter"):
        _read(two, model="two_inputs:Any", inputs=(spec("", 1, 4),))


# --- torch.export programs


def _small() -> ResNet:
    torch.manual_seed(0)
    return ResNet(widths=(4, 4, 8), depths=(1, 1, 1))


def _program(path: Path, *, dynamic: bool) -> None:
    network = _small().eval()
    shapes = {"images": {0: torch.export.Dim("N", min=1, max=8) if dynamic else None}}
    program = torch.export.export(
        network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=shapes if dynamic else None
    )
    torch.export.save(program, path)


def test_program_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    _program(path, dynamic=False)
    supernet = _read(path.rename(tmp_path / "model.bin"))
    assert isinstance(supernet, ProgramSupernet)
    assert supernet.inputs == (TensorSpec("images", "float32", (2, 1, 8, 8)),)
    assert supernet.model == "model.bin"
    logits = supernet.source.module()(torch.zeros(2, 1, 8, 8))
    expected = _small().eval()(torch.zeros(2, 1, 8, 8))
    assert torch.equal(logits, expected)


def test_program_keeps_its_dynamic_batch_in_its_range(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    _program(path, dynamic=True)
    supernet = _read(path, dimensions=(Dimension("N", 1, 2, 8),))
    assert supernet.inputs == (TensorSpec("images", "float32", ("N", 1, 8, 8)),)
    fixed = _read(path, inputs=(TensorSpec("", "float32", (4, 1, 8, 8)),))
    assert fixed.inputs == (TensorSpec("images", "float32", (4, 1, 8, 8)),)
    with pytest.raises(CheckpointError, match="exported for 1 to 8 in dimension 0"):
        _read(path, dimensions=(Dimension("N", 1, 4, 16),))
    with pytest.raises(CheckpointError, match=r"Either give its sizes, .* --batch 1:4:16"):
        _read(path)
    with pytest.raises(CheckpointError, match="Leave --model, --model-arg and --weights out"):
        _read(path, model=MODEL)


def test_program_with_transformers_outputs_is_read(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic")
    network = ResNetForImageClassification(config).eval()
    example = {"pixel_values": torch.zeros(1, 3, 32, 32)}
    torch.export.save(torch.export.export(network, (), example), tmp_path / "model.pt2")
    code = (
        "from pathlib import Path\n"
        "from skipc.compiler.read import ModelOptions, read_checkpoint\n"
        f"supernet = read_checkpoint(Path({str(tmp_path / 'model.pt2')!r}), ModelOptions())\n"
        "print(supernet.inputs[0].name)\n"
    )
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out == "pixel_values\n"


# --- ONNX


def _onnx(path: Path, *dims: int | str, dtype: int = TensorProto.FLOAT) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Add", ["images", "w"], ["logits"])],
        "g",
        [
            helper.make_tensor_value_info("images", dtype, list(dims)),
            helper.make_tensor_value_info("w", dtype, [1]),
        ],
        [helper.make_tensor_value_info("logits", dtype, list(dims))],
        [helper.make_tensor("w", dtype, [1], [1])],
    )
    onnx.save(helper.make_model(graph), path)
    return path


def test_onnx_inputs_come_from_the_file(tmp_path: Path) -> None:
    supernet = _read(_onnx(tmp_path / "m.onnx", 2, 3, dtype=TensorProto.INT64))
    assert isinstance(supernet, OnnxSupernet)
    assert supernet.inputs == (TensorSpec("images", "int64", (2, 3)),)


def test_onnx_open_sizes_are_settled(tmp_path: Path) -> None:
    path = _onnx(tmp_path / "m.bin", "batch", 3, "height")
    given = (TensorSpec("", "float32", ("N", 3, 8)),)
    supernet = _read(path, inputs=given, dimensions=(Dimension("N", 1, 2, 4),))
    assert supernet.inputs == (TensorSpec("images", "float32", ("N", 3, 8)),)
    assert _read(_onnx(path, "batch", 3), dimensions=(Dimension("N", 1, 1, 2),)).inputs[
        0
    ].shape == (
        "N",
        3,
    )


@pytest.mark.parametrize(
    ("dims", "given", "batch", "fragment"),
    [
        (("b", 3), None, (), "images=Nx3 --batch .* or fix it: --input images=1x3"),
        ((1, "h"), None, (), r"dimension 1 of .* images=1x\?:float32 is open.* --dim D1="),
        ((1, 3), TensorSpec("image", "float32", (1, 3)), (), "Did you mean 'images'"),
        ((1, 3), TensorSpec("", "float32", (1, 4)), (), "1x4 does not fit .* images=1x3"),
        ((1, 3), TensorSpec("", "int64", (1, 3)), (), "1x3:int64 does not fit"),
        ((1, 3), TensorSpec("", "float32", (1, 3, 1)), (), "1x3x1 does not fit"),
        (
            (1, 3),
            TensorSpec("", "float32", ("N", 3)),
            (Dimension("N", 1, 1, 2),),
            "Nx3 does not fit",
        ),
        ((1, 3), None, (Dimension("N", 1, 1, 2),), "no input has a free batch: images=1x3"),
    ],
)
def test_onnx_is_refused_when_its_inputs_are_open_or_others(
    tmp_path: Path,
    dims: tuple[int | str, ...],
    given: TensorSpec | None,
    batch: tuple[Dimension, ...],
    fragment: str,
) -> None:
    path = _onnx(tmp_path / "m.onnx", *dims)
    with pytest.raises(CheckpointError, match=fragment):
        _read(path, inputs=() if given is None else (given,), dimensions=batch)


def test_onnx_is_refused_when_too_many_inputs_are_given(tmp_path: Path) -> None:
    path = _onnx(tmp_path / "m.onnx", 1, 3)
    spec = TensorSpec("", "float32", (1, 3))
    with pytest.raises(CheckpointError, match="2 inputs are given, but the graph has 1"):
        _read(path, inputs=(spec, spec))


def test_onnx_is_read_without_torch(tmp_path: Path) -> None:
    path = _onnx(tmp_path / "m.onnx", 1, 3)
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from skipc.compiler.read import ModelOptions, read_checkpoint\n"
        f"print(read_checkpoint(Path({str(path)!r}), ModelOptions()).inputs[0].shape)\n"
        "try:\n"
        f"    read_checkpoint(Path({str(tmp_path / 'w.pt')!r}), ModelOptions())\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith("(1, 3)\n")
    assert "pip install '.[compiler]'" in out

"""Exporting: outputs, dynamic batch, randomness, and what the graph may not contain."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional

from skipc.compiler.errors import CheckpointError, SupernetError
from skipc.compiler.read import OnnxSupernet, ProgramSupernet, TorchSupernet
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.zoo import NETS, case_for, exported, module_of, supernet

ROW = (TensorSpec("x", "float32", (1, 4)),)
ROWS = (TensorSpec("x", "float32", ("N", 4)),)


def network(
    module: nn.Module,
    inputs: tuple[TensorSpec, ...] = ROW,
    output: str | None = None,
    dimensions: tuple[Dimension, ...] = (),
) -> TorchSupernet:
    return TorchSupernet(module.eval(), inputs, dimensions, output, "network", {})


class Returning(nn.Module):
    """Returns whatever ``shape_result`` makes of two rows."""

    def __init__(self, shape_result) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)
        self.shape_result = shape_result

    def forward(self, x):
        return self.shape_result(self.a(x), self.b(x))


@pytest.mark.parametrize(
    ("shape_result", "output", "names"),
    [
        (lambda a, b: a, None, ["output"]),
        (lambda a, b: (a,), None, ["output"]),
        (lambda a, b: (a, b), None, ["output_0", "output_1"]),
        (lambda a, b: [a, None, b], None, ["output_0", "output_2"]),
        (lambda a, b: (a, a), None, ["output_0", "output_1"]),
        (lambda a, b: (a, b), "output_1", ["output_1"]),
        (lambda a, b: {"loss": a, "logits": b}, None, ["logits"]),
        (lambda a, b: {"loss": a, "logits": b}, "loss", ["loss"]),
        (lambda a, b: {"boxes": a, "scores": b}, None, ["boxes", "scores"]),
        (lambda a, b: {"deep": {"x": a}, "pair": (b,)}, None, ["deep.x", "pair_0"]),
        (lambda a, b: {"x": a}, None, ["x_output"]),
        (lambda a, b: {"linear_1": a, "linear": b}, None, ["linear_1", "linear"]),
    ],
)
def test_outputs_are_named_by_the_fields_of_what_forward_returns(shape_result, output, names):
    graph = network(Returning(shape_result), output=output).exported()
    assert [value.name for value in graph.model.graph.outputs] == names
    assert [spec.name for spec in graph.outputs] == names
    assert [value.name for value in graph.model.graph.inputs] == ["x"]
    case = case_for(NETS["functional"])  # any generator of arrays
    case = {"x": case["x"].reshape(-1)[:4].reshape(1, 4)}
    found = graph.reference.run([case])[0]
    assert list(found) == names
    for spec in graph.outputs:
        assert found[spec.name].shape == spec.shape


def test_output_unknown_names_the_nearest():
    made = network(Returning(lambda a, b: {"boxes": a, "scores": b}), output="score")
    with pytest.raises(SupernetError, match=r"no such output. Did you mean 'scores'"):
        made.exported()


def test_output_without_a_tensor_is_refused():
    with pytest.raises(SupernetError, match="returns no tensor"):
        network(Returning(lambda a, b: {"nothing": None})).exported()


def test_output_named_like_an_inner_value_keeps_its_reference():
    graph, search = exported("functional")
    module = module_of(NETS["functional"])

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x):
            return {"add": self.inner(x)}

    made = network(Named(), NETS["functional"].inputs).exported()
    case = case_for(NETS["functional"])
    expected = graph.reference.run([case])[0]["output"]
    assert (made.reference.run([case])[0]["add"] == expected).all()
    assert search.units


def test_dynamic_batch_is_called_n_everywhere():
    graph, _ = exported("vit-any-batch")
    assert graph.inputs[0].shape == ("N", 3, 16, 16)
    assert graph.outputs[0].shape == ("N", 5)
    symbols = set()
    for node in graph.model.graph:
        for value in node.outputs:
            if value.shape is not None:
                symbols |= {str(dim) for dim in value.shape if not isinstance(dim, int)}
    assert {symbol for symbol in symbols if "N" not in symbol} <= {"None"}


@pytest.mark.parametrize(
    "batch",
    [(Dimension("N", 1, 1, 4),), (Dimension("N", 3, 3, 3),), (Dimension("N", 1, 8, 9),)],
)
def test_dynamic_batch_takes_any_range(batch):
    made = network(Returning(lambda a, b: a), ROWS, dimensions=batch)
    assert made.exported().outputs[0].shape == ("N", 3)


def test_dynamic_batch_that_the_network_fixes_is_refused():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, 2, 4).sum(1)

    with pytest.raises(SupernetError, match=r"it fixes N to 4 \(--batch 1:4:8\)"):
        network(Fixed(), ROWS, dimensions=(Dimension("N", 1, 4, 8),)).exported()


def test_output_size_that_depends_on_values_is_refused():
    class Compressed(nn.Module):
        def forward(self, x):
            return {"kept": x[x > 0], "all": x} if self.several else x[x > 0]

    made = Compressed()
    for made.several, advice in (
        (False, r"from the batch only as the first\.$"),
        (True, r"only as the first\. Choose another with --output\. Available: 'all'\."),
    ):
        with pytest.raises(SupernetError, match=rf"dimension 0 .* is not known .*{advice}"):
            network(made).exported()


class Block(nn.Module):
    """A residual block whose stochastic depth forgets to look at ``training``."""

    def __init__(self, keep) -> None:
        super().__init__()
        self.work, self.keep = nn.Linear(4, 4), keep

    def forward(self, x):
        return x + self.keep(self.work(x))


@pytest.mark.parametrize(
    "keep",
    [
        lambda y: y * torch.bernoulli(torch.full((1, 1), 0.5)),
        lambda y: functional.dropout(y, 0.5, training=True),
        lambda y: y * (torch.rand(1) > 0.5),
        lambda y: y + torch.randn_like(y),
        lambda y: functional.dropout1d(y[None], 0.5, training=True)[0],
    ],
)
def test_random_operator_is_refused_with_its_module(keep):
    made = network(Rooted(nn.Sequential(nn.Linear(4, 4), Block(keep))))
    with pytest.raises(SupernetError, match=r"module 'blocks\.1' draws random numbers"):
        made.exported()


class Rooted(nn.Module):
    def __init__(self, blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x):
        return self.blocks(x)


def test_dropout_in_eval_mode_is_no_randomness():
    made = network(Rooted(nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 2))))
    graph = made.exported()
    assert not [node for node in graph.model.graph if node.op_type == "Dropout"]


def test_random_operator_in_the_roots_forward_is_refused():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    with pytest.raises(SupernetError, match="the network's own forward draws random numbers"):
        network(Noise()).exported()


def test_control_flow_on_values_is_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(SupernetError, match="must not branch on their values"):
        network(Branching()).exported()


def test_operator_without_an_onnx_counterpart_is_named():
    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    with pytest.raises(
        SupernetError, match=r"No ONNX function found for .*bessel_j0"
    ) as raised:
        network(Bessel()).exported()
    assert "\x1b" not in str(raised.value)


def test_exception_in_forward_is_a_users_error():
    class Broken(nn.Module):
        def forward(self, x):
            return x.reshape(3, 5)

    with pytest.raises(
        SupernetError, match=r"PyTorch cannot export it: RuntimeError(.|\n)*check --input"
    ):
        network(Broken()).exported()


@pytest.mark.parametrize("name", ["torchvision-resnet", "vit"])
def test_graph_names_no_file_of_this_machine(name, tmp_path):
    graph, _ = exported(name)
    ir.save(graph.model.clone(), tmp_path / "graph.onnx")
    data = (tmp_path / "graph.onnx").read_bytes()
    for fragment in (b"/work", b"/home", b"site-packages", b".py", b"stack_trace", b"File "):
        assert fragment not in data


def test_every_node_of_a_unit_knows_its_module():
    graph, _ = exported("vit")
    paths = {node.metadata_props.get("skipc.module", "") for node in graph.model.graph}
    assert {"vit.layers.0.attention", "vit.layers.1.mlp.fc1", "classifier"} <= paths


def test_program_leads_to_the_same_graph_as_its_network():
    made = supernet("torchvision-resnet")
    x = torch.zeros(1, 3, 16, 16)
    program = torch.export.export(made.source, (), {"x": x})
    again = ProgramSupernet(program, made.inputs, (), None, "program").exported()
    graph, _ = exported("torchvision-resnet")
    assert [n.op_type for n in again.model.graph] == [n.op_type for n in graph.model.graph]
    assert again.model.graph.initializers.keys() == graph.model.graph.initializers.keys()


def onnx_network(path, *nodes: onnx.NodeProto, output: str | None = None) -> OnnxSupernet:
    """Writes a graph from ``x`` to ``y`` and returns it as a supernet."""
    helper = onnx.helper
    x, y = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in "xy"
    )
    training = helper.make_tensor("training", onnx.TensorProto.BOOL, [], [True])
    ratio = helper.make_tensor("ratio", onnx.TensorProto.FLOAT, [], [0.5])
    graph = helper.make_graph(nodes, "graph", [x], [y], [training, ratio])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return OnnxSupernet(path, ROW, (), output, path.name)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [("RandomNormalLike", ["x"]), ("Dropout", ["x", "ratio", "training"])],
)
def test_random_operator_in_an_onnx_supernet_is_refused(op, inputs, tmp_path):
    node = onnx.helper.make_node(op, inputs, ["y"], name="/drop/noise")
    with pytest.raises(SupernetError, match=rf"module 'drop' draws random numbers \({op}\)"):
        onnx_network(tmp_path / "net.onnx", node).exported()


def test_dropout_of_an_onnx_supernet_that_is_off_is_no_randomness(tmp_path):
    node = onnx.helper.make_node("Dropout", ["x", "ratio"], ["y"])
    assert onnx_network(tmp_path / "net.onnx", node).exported().outputs[0].name == "y"


def test_output_unknown_to_an_onnx_supernet_names_the_choices(tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(SupernetError, match=r"--output 'z': no such output. Available: 'y'"):
        onnx_network(tmp_path / "net.onnx", node, output="z").exported()


def test_file_that_is_no_onnx_model_is_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="damaged, or no ONNX model"):
        OnnxSupernet(tmp_path / "net.onnx", ROW, (), None, "net.onnx").exported()


def test_size_that_the_network_fixes_is_named():
    made = supernet("functional")
    program = torch.export.export(made.source, (), {"x": torch.zeros(1, 3, 16, 16)})
    larger = (TensorSpec("x", "float32", (1, 3, 32, 32)),)
    with pytest.raises(SupernetError, match="fixes a size to 16, which was given as 32"):
        ProgramSupernet(program, larger, (), None, "program").exported()

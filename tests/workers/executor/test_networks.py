"""Whole networks through the executor: same outputs, same gradients, same bytes."""

import copy
import pickle  # noqa: TID251 (what a training process hands to another is its own)
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from tests.workers import zoo
from workers.compression.executor import Executor, build, write_back
from workers.compression.graph.load import save

TOLERANCE = 1e-4
"""Greatest error, relative to the range of the output."""


def expected(path: Path, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = session.run(names, {name: tensor.numpy() for name, tensor in feeds.items()})
    return dict(zip(names, map(torch.from_numpy, results), strict=True))


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].shape == tensor.shape
        span = float(tensor.max() - tensor.min())
        assert float((found[name] - tensor).abs().max()) <= TOLERANCE * span


@pytest.mark.parametrize("name", zoo.NETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_equal_onnxruntimes(name: str, batch: int) -> None:
    executor = build(zoo.graph(name))
    assert executor.frozen == []
    with torch.no_grad():
        for length in (None, 7) if zoo.NETS[name].length else (None,):
            feeds = zoo.feeds(name, batch, length=length)
            assert_near(executor(feeds), expected(zoo.path(name), feeds))


@pytest.mark.parametrize("name", ["mlp", "residual", "inverted_residual", "vit", "bert"])
def test_gradients_equal_the_sources(name: str) -> None:
    """To the inputs of float networks, and to each weight that the export left as it was."""
    source, executor = copy.deepcopy(zoo.module(name)), build(zoo.graph(name))
    feeds, again = zoo.feeds(name, 4), zoo.feeds(name, 4)
    for tensor in (*feeds.values(), *again.values()):
        tensor.requires_grad_(tensor.is_floating_point())
    output = source(*feeds.values())
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    (output * weights).sum().backward()
    (executor(again)["output"] * weights).sum().backward()
    assert all(parameter.grad is not None for parameter in executor.parameters())
    pairs = list(_same_weights(source, executor))
    assert len(pairs) >= 2
    pairs += [(feeds[key].grad, again[key].grad) for key in feeds if feeds[key].requires_grad]
    for wanted, found in pairs:
        assert wanted is not None
        assert found is not None
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def _same_weights(
    source: nn.Module, executor: Executor
) -> list[tuple[Tensor | None, Tensor | None]]:
    """Pair gradients by name where the exporter kept both name and value."""
    return [
        (parameter.grad, executor.weight(name).grad)
        for name, parameter in source.named_parameters()
        if name in executor.names and torch.equal(parameter, executor.weight(name))
    ]


@pytest.mark.parametrize("name", zoo.NETS)
def test_writing_back_what_was_not_trained_changes_no_byte(name: str, tmp_path: Path) -> None:
    graph = zoo.graph(name)
    save(graph, tmp_path / "before.onnx")
    write_back(build(graph), graph)
    save(graph, tmp_path / "after.onnx")
    assert (tmp_path / "before.onnx").read_bytes() == (tmp_path / "after.onnx").read_bytes()


@pytest.mark.parametrize("name", ["inverted_residual", "bert"])
def test_what_was_trained_is_what_is_written(name: str, tmp_path: Path) -> None:
    """Training moves the outputs; the written graph has the moved ones in onnxruntime."""
    graph, feeds = zoo.graph(name), zoo.feeds(name, 4)
    untouched = graph.clone()
    executor = build(graph)
    before = executor(feeds)["output"].detach()
    optimizer = torch.optim.SGD(executor.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        executor(feeds)["output"].sum().backward()
        optimizer.step()
    for key, value in graph.graph.initializers.items():
        assert value.const_value is not None
        same = untouched.graph.initializers[key].const_value
        assert same is not None
        np.testing.assert_array_equal(value.const_value.numpy(), same.numpy())
    write_back(executor, graph)
    save(graph, tmp_path / "trained.onnx")
    with torch.no_grad():
        found = executor(feeds)
    assert float((found["output"] - before).abs().max()) > 1e-3
    assert_near(found, expected(tmp_path / "trained.onnx", feeds))


def test_any_value_can_be_returned_and_nothing_else_is_computed() -> None:
    graph = zoo.graph("residual")
    inner = [str(node.outputs[0].name) for node in graph.graph if node.op_type == "Conv"][:2]
    feeds = zoo.feeds("residual")
    whole = build(graph, outputs=[*inner, "output", "image"])(feeds)
    part = build(graph, outputs=inner)
    assert list(whole) == [*inner, "output", "image"]
    assert len(part.names) < 6
    for name, tensor in part(feeds).items():
        torch.testing.assert_close(tensor, whole[name])
    with pytest.raises(ValueError, match="no values named \\['nowhere'\\]"):
        build(graph, outputs=["nowhere"])


def test_a_convolution_keeps_its_value_when_an_activation_reads_it() -> None:
    """Activations overwrite their inputs only where nobody looks."""
    graph = zoo.graph("residual")
    first = next(node for node in graph.graph if node.op_type == "Conv")
    name = str(first.outputs[0].name)
    found = build(graph, outputs=[name, "output"])(zoo.feeds("residual"))
    assert float(found[name].detach().min()) < 0


@pytest.mark.parametrize("name", ["inverted_residual", "bert"])
def test_an_executor_can_be_pickled(name: str) -> None:
    executor, feeds = build(zoo.graph(name)), zoo.feeds(name)
    again: Executor = pickle.loads(pickle.dumps(executor))
    assert again.names == executor.names
    torch.testing.assert_close(again(feeds), executor(feeds))


@pytest.mark.parametrize("name", zoo.NETS)
def test_data_and_weights_meet_on_one_device(name: str) -> None:
    """On torch's device without data, which refuses to be mixed with another."""
    executor = build(zoo.graph(name)).to("meta")
    feeds = {key: tensor.to("meta") for key, tensor in zoo.feeds(name).items()}
    assert executor(feeds)["output"].device.type == "meta"


@pytest.mark.parametrize("name", zoo.NETS)
def test_mixed_precision_stays_near_and_trains(name: str) -> None:
    """Autocast to bfloat16: within 3 % of the output's range, gradients in the weights' type."""
    executor, feeds = build(zoo.graph(name)), zoo.feeds(name)
    wanted = executor(feeds)["output"].detach()
    with torch.autocast("cpu", torch.bfloat16):
        found = executor(feeds)["output"].float()
    found.sum().backward()
    span = (wanted.max() - wanted.min()).item()
    assert (found.detach() - wanted).abs().max().item() < 0.03 * span
    for parameter in executor.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            assert parameter.grad.dtype == torch.float32


def test_measured_statistics_are_parameters_that_are_not_trained() -> None:
    graph, executor = zoo.graph("dense_concat"), build(zoo.graph("dense_concat"))
    norms = [node for node in graph.graph if node.op_type == "BatchNormalization"]
    measured = {
        str(value.name) for node in norms for value in node.inputs[3:5] if value is not None
    }
    assert len(measured) == 10
    for name in executor.names:
        assert executor.weight(name).requires_grad == (name not in measured)


def test_values_are_let_go_after_their_last_reader() -> None:
    """In a chain each step lets one value go."""
    values = [ir.Value(name="x", shape=ir.Shape(["N"]), type=ir.TensorType(ir.DataType.FLOAT))]
    nodes = []
    for index in range(20):
        node = ir.Node("", "Exp" if index % 2 else "Neg", [values[-1]], num_outputs=1)
        node.outputs[0].name = f"v{index}"
        nodes.append(node)
        values.append(node.outputs[0])
    graph = ir.Graph([values[0]], [values[-1]], nodes=nodes, opset_imports={"": 21})
    plan = build(ir.Model(graph, ir_version=10))._plan
    assert all(len(step.free) == 1 for step in plan.steps)


@pytest.mark.parametrize("name", zoo.NETS)
def test_every_float_initializer_but_single_numbers_is_a_parameter(name: str) -> None:
    graph, executor = zoo.graph(name), build(zoo.graph(name))
    sizes = {value for node in graph.graph if node.op_type == "Resize" for value in node.inputs}
    weights = {
        key
        for key, value in graph.graph.initializers.items()
        if value.dtype == ir.DataType.FLOAT and value.const_value is not None
        if value.const_value.size > 1 and value not in sizes
    }
    assert set(executor.names) == weights


def test_the_bias_of_a_single_output_is_trained() -> None:
    """It is one element, as a number of a formula is."""
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[N, 4] x) => (float[N, 1] y)
    <float[4, 1] w = {1, 2, 3, 4}, float[1] b = {1}, float[1] two = {2}>
    { m = MatMul(x, w)  a = Add(m, b)  y = Mul(a, two) }"""
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    executor = build(ir.serde.deserialize_model(proto))
    assert set(executor.names) == {"w", "b"}
    assert executor({"x": torch.ones(1, 4)})["y"].item() == 22


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
@pytest.mark.parametrize("operands", ["c, yes", "yes, c"])
def test_a_condition_meets_a_constant(operator: str, operands: str) -> None:
    """Masks of attention are exported so."""
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    g (float[N] x) => (bool[N] y) <float zero = {{0}}, bool yes = {{1}}>
    {{ c = Greater(x, zero)  y = {operator}({operands}) }}"""
    executor = build(ir.serde.deserialize_model(onnx.parser.parse_model(text)))
    found = executor({"x": torch.tensor([-1.0, 1.0])})["y"].tolist()
    assert found == {"And": [False, True], "Or": [True, True], "Xor": [True, False]}[operator]


def test_names_map_one_to_one() -> None:
    executor = build(zoo.graph("vit"))
    parameters = dict(executor.named_parameters())
    assert set(executor.names.values()) == set(parameters)
    assert len(set(executor.names.values())) == len(executor.names)
    with pytest.raises(KeyError):
        executor.weight("nowhere")


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="'image' was not given"):
        build(zoo.graph("vit"))({})

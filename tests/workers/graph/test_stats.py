"""Parameters and MACs are what the contract says they are, in every form that weights take."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime.quantization as ortq
import pytest
from onnx import helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from tests.workers.intake.models import branch, convnet, mlp, model, tensor, value, write
from workers.compression.graph import stats
from workers.compression.graph.load import load

SIZES = {"N": 1, "H": 8, "W": 8}
CONV_MACS = 6 * 3 * 9 * 64 + 6 * 5
CONV_PARAMETERS = 6 * 3 * 9 + 6 + 6 + 6 * 5 + 5


def read(proto: onnx.ModelProto) -> ir.Model:
    return ir.serde.deserialize_model(proto)


class Samples(ortq.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.left = [{"x": generator.random((1, 3, 8, 8), np.float32)} for _ in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def dynamic(source: Path, target: Path) -> None:
    ortq.quantize_dynamic(source, target)


def static(form: ortq.QuantFormat, **options: bool) -> Callable[[Path, Path], None]:
    def quantize(source: Path, target: Path) -> None:
        ortq.quantize_static(source, target, Samples(), quant_format=form, **options)

    return quantize


def float16(source: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def test_a_convolutional_net() -> None:
    found = stats.measure(read(convnet()), SIZES)
    assert found.macs == CONV_MACS
    assert found.parameters == CONV_PARAMETERS
    assert found.nonzero_parameters == CONV_PARAMETERS - 6  # the normalisation's offsets are zero
    assert [layer.name for layer in found.layers] == ["conv", "norm", "classifier", "bias_add"]
    assert not found.unknown


@pytest.mark.parametrize(
    "quantize",
    [
        dynamic,
        static(ortq.QuantFormat.QDQ),
        static(ortq.QuantFormat.QDQ, per_channel=True),
        static(ortq.QuantFormat.QOperator),
        float16,
    ],
    ids=["dynamic", "qdq", "qdq per channel", "qoperator", "float16"],
)
def test_a_quantized_form_counts_as_its_original(
    tmp_path: Path, quantize: Callable[[Path, Path], None]
) -> None:
    """Scales and zero points do not count, packed weights do, MACs stay."""
    source = write(convnet(), tmp_path / "model.onnx")
    quantize(source, tmp_path / "small.onnx")
    small = load(tmp_path / "small.onnx")
    feeds = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    found = stats.measure(small, SIZES, feeds)
    assert found.parameters == CONV_PARAMETERS
    assert found.macs == CONV_MACS
    assert not found.unknown


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_count_as_their_elements(tmp_path: Path, bits: int) -> None:
    """MatMulNBits keeps several weights in a byte; 8 bytes of padding are no parameters."""
    weight = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    weight[:, 0] = 0
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "m")
    proto = model([node], [value("x", "N", 40)], [value("y", "N", 16)], [tensor("w", weight)])
    quantizer = MatMulNBitsQuantizer(proto, bits=bits, block_size=32, is_symmetric=True)
    quantizer.process()
    feeds = {"x": np.zeros((1, 40), np.float32)}
    found = stats.measure(read(quantizer.model.model), {"N": 1}, feeds)
    assert (found.parameters, found.macs) == (640, 640)
    assert found.nonzero_parameters <= 600


def test_unused_bits_and_shared_tensors_count_once() -> None:
    w = tensor("w", np.ones((4, 4), np.float32))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "one"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "two"),
    ]
    found = stats.measure(read(model(nodes, [value("x", 1, 4)], [value("y", 1, 4)], [w])), {})
    assert (found.parameters, found.macs) == (16, 32)


def test_embeddings_count_and_shape_constants_do_not() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"], "embed"),
        helper.make_node("Shape", ["e"], ["s"]),
        helper.make_node("Gather", ["sizes", "zero"], ["g"], "pick"),
        helper.make_node("Reshape", ["e", "g"], ["y"]),
    ]
    weights = [
        tensor("table", np.ones((10, 3), np.float32)),
        tensor("sizes", np.array([[-1, 3]])),
        tensor("zero", np.array(0)),
    ]
    inputs = [value("x", "T", dtype=onnx.TensorProto.INT64)]
    found = stats.measure(read(model(nodes, inputs, [value("y", "a", 3)], weights)), {"T": 5})
    assert found.parameters == 30
    assert [layer.name for layer in found.layers] == ["embed"]


@pytest.mark.parametrize(
    ("op", "attributes", "kernel", "output", "macs"),
    [
        ("Conv", {"group": 4}, (8, 1, 3, 3), "y", 8 * 1 * 9 * 16),
        ("Conv", {"strides": [2, 2]}, (8, 4, 2, 2), "y", 8 * 4 * 4 * 9),
        ("ConvTranspose", {"strides": [2, 2]}, (4, 8, 3, 3), "y", 4 * 36 * 8 * 9),
    ],
)
def test_convolutions(
    op: str, attributes: dict[str, object], kernel: tuple[int, ...], output: str, macs: int
) -> None:
    node = helper.make_node(op, ["x", "w"], [output], "c", **attributes)
    weights = [tensor("w", np.ones(kernel, np.float32))]
    proto = model([node], [value("x", "N", 4, 6, 6)], [value("y", "N", 8, "h", "w")], weights)
    assert stats.measure(read(proto), {"N": 1}).macs == macs


def test_products_of_activations_count_and_batches_multiply() -> None:
    nodes = [helper.make_node("MatMul", ["x", "z"], ["y"])]
    inputs = [value("x", "N", 2, 5, 7), value("z", "N", 2, 7, 3)]
    found = stats.measure(read(model(nodes, inputs, [value("y", "N", 2, 5, 3)])), {"N": 1})
    assert (found.parameters, found.macs) == (0, 2 * 5 * 7 * 3)


def test_recurrent_weights_count() -> None:
    weights = [
        tensor("w", np.ones((1, 32, 4), np.float32)),
        tensor("r", np.ones((1, 32, 8), np.float32)),
        tensor("b", np.ones((1, 64), np.float32)),
    ]
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], "lstm", hidden_size=8)
    proto = model([node], [value("x", "T", "N", 4)], [value("y", "T", 1, "N", 8)], weights)
    found = stats.measure(read(proto), {"T": 3, "N": 1})
    assert found.parameters == 32 * 12 + 64
    assert (found.macs, found.uncounted) == (0, ["LSTM"])
    [note] = stats.notes_on_macs(len(found.unknown), found.uncounted)
    assert note.endswith("the work of LSTM is not among them.")


def test_sizes_that_inference_misses_are_observed_in_a_run() -> None:
    """A Reshape to a size computed at run time hides the shapes that follow."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("Transpose", ["f"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["y"], "hidden"),
    ]
    weights = [tensor("w", np.ones((2, 3), np.float32))]
    graph = read(model(nodes, [value("x", "N", 4)], [value("y", "k", 3)], weights))
    assert stats.measure(graph, {"N": 1}).unknown == ["hidden"]
    found = stats.measure(graph, {"N": 1}, {"x": np.ones((1, 4), np.float32)})
    assert (found.unknown, found.macs) == ([], 4 * 2 * 3)


def test_operators_are_counted_in_subgraphs_too() -> None:
    assert stats.operators(read(branch())) == {"Greater": 1, "If": 1, "Mul": 2, "ReduceSum": 1}
    assert stats.operators(read(mlp())) == {"Gemm": 2, "Identity": 1, "Relu": 1}


def test_a_graph_that_is_fixed_to_a_batch_counts_one_sample() -> None:
    """A dynamic batch and a fixed one of any size have the same figures."""
    for batch in (1, 4):
        proto = convnet()
        for end in (proto.graph.input[0], proto.graph.output[0]):
            end.type.tensor_type.shape.dim[0].dim_value = batch
        assert stats.measure(read(proto), SIZES, samples=batch).macs == CONV_MACS


def test_weights_that_are_put_together_from_constants_count() -> None:
    """Exporters of recurrent layers slice, join and unsqueeze their weights in the graph."""
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    half = np.ones((4, 3), np.float32)
    proto = model(
        nodes, [value("x", "N", 4)], [value("y", "N", 6)], [tensor("a", half), tensor("b", half)]
    )
    found = stats.measure(read(proto), SIZES)
    assert found.parameters == 24
    assert found.macs == 24


def test_layers_within_local_functions_count_for_each_call() -> None:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["p"]), helper.make_node("Relu", ["p"], ["c"])]
    imports = [helper.make_opsetid("", 17)]
    dense = helper.make_function("own", "Dense", ["a", "b"], ["c"], nodes, imports)
    calls = [
        helper.make_node("Dense", ["x", "first"], ["hidden"], domain="own"),
        helper.make_node("Dense", ["hidden", "second"], ["y"], domain="own"),
    ]
    weights = [tensor("first", np.ones((4, 6))), tensor("second", np.ones((6, 3)))]
    proto = model(calls, [value("x", "N", 4)], [value("y", "N", 3)], weights)
    proto.functions.append(dense)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    found = stats.measure(read(proto), {"N": 1})
    assert (found.parameters, found.macs) == (4 * 6 + 6 * 3, 4 * 6 + 6 * 3)

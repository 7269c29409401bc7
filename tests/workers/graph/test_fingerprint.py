"""What a graph computes has one fingerprint, whatever its values, nodes and remarks are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from workers.compression.graph.fingerprint import fingerprint

TEXT = """
<ir_version: 9, opset_import: ["": 20]>
net (float[N, 2] x, bool c) => (float[N, 2] y)
<float[2, 2] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {0.5, 0.5}>
{
    a = MatMul(x, w)
    d = Add(a, b)
    e = LeakyRelu<alpha = 0.1>(d)
    y = If(c) <
        then_branch = one () => (float[N, 2] s) <float[2] k = {1.0, 2.0}> { s = Mul(e, k) },
        else_branch = two () => (float[N, 2] t) { t = Sub(e, b) }
    >
}
"""


def graph(text: str = TEXT) -> onnx.ModelProto:
    model: onnx.ModelProto = onnx.parser.parse_model(text)
    return model


def of(model: onnx.ModelProto) -> bytes:
    return fingerprint(ir.serde.deserialize_model(model))


def _renamed(model: onnx.ModelProto) -> None:
    text = onnx.printer.to_text(model)
    for old, new in (("a = ", "first = "), ("(a, b)", "(first, b)")):
        text = text.replace(old, new)
    model.CopyFrom(onnx.parser.parse_model(text))


def _named(model: onnx.ModelProto) -> None:
    for number, node in enumerate(model.graph.node):
        node.name = f"node {number}"


def _documented(model: onnx.ModelProto) -> None:
    model.graph.doc_string = "a remark"
    model.producer_name = "somebody"
    model.graph.value_info.add(name="d")


def _dead(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, onnx.helper.make_node("Exp", ["x"], ["nobody reads this"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(9, np.float32), "unused"))


def _stored_otherwise(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), weight.name))


@pytest.mark.parametrize("change", [_renamed, _named, _documented, _dead, _stored_otherwise])
def test_what_computes_alike_is_alike(change: Callable[[onnx.ModelProto], None]) -> None:
    model = graph()
    change(model)
    assert model.SerializeToString() != graph().SerializeToString()
    assert of(model) == of(graph())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{1.0, 2.0, 3.0, 4.0}", "{1.0, 2.0, 3.0, 4.5}"),
        ("alpha = 0.1", "alpha = 0.2"),
        ("Add(a, b)", "Sub(a, b)"),
        ("Add(a, b)", "Add(b, a)"),
        ("Add(a, b)", "Add(a, a)"),
        ("k = {1.0, 2.0}", "k = {1.0, 2.5}"),
        ("Sub(e, b)", "Sub(a, b)"),
        ("Sub(e, b)", "Sub(b, e)"),
        ('"": 20', '"": 21'),
        ("bool c) => (float[N, 2] y)", "bool c) => (float[N, 2] e)"),
    ],
)
def test_what_computes_otherwise_is_another(old: str, new: str) -> None:
    assert old in TEXT
    assert of(graph(TEXT.replace(old, new))) != of(graph())


def test_a_weight_of_another_type_is_another() -> None:
    """The bytes alone do not tell a weight of int8 from one of uint8."""

    def quantized(dtype: str) -> bytes:
        return of(
            graph(f"""
            <ir_version: 9, opset_import: ["": 20]>
            net (float[N, 2] x) => (float[2, 2] y)
            <{dtype}[2, 2] w = {{1, 2, 3, 4}}> {{ y = Cast<to = 1>(w) }}
            """)
        )

    assert len({quantized("int8"), quantized("uint8")}) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zeros_of_either_sign_compute_alike(dtype: type[np.floating[Any]]) -> None:
    def with_weights(values: list[float]) -> bytes:
        model = graph()
        weights = onnx.numpy_helper.from_array(np.array([values, values], dtype), "w")
        model.graph.initializer[0].CopyFrom(weights)
        return of(model)

    assert with_weights([0.0, 1.0]) == with_weights([-0.0, 1.0])
    assert with_weights([0.0, 1.0]) != with_weights([0.0, -1.0])

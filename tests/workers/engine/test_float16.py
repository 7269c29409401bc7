"""Half precision: what half cannot hold, or the standard fixes to float32, stays in float32."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from app.domain.steps import Quantize
from tests.workers.engine.test_graphs import FLOAT16, apply, graph, normal, reasons
from workers.compression.graph.editor import constant, name_nodes
from workers.compression.graph.load import load, store
from workers.compression.intake.inspect import inspect_model
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.samples.context import Context


def types_of(outcome: Outcome) -> dict[str, str]:
    """Return the type of each weight that is left."""
    values = [v for g in outcome.model.graphs() for v in g.initializers.values()]
    return {str(value.name): str(value.dtype) for value in values}


def test_a_named_loop_stays_in_float32_with_its_body(tmp_path: Path) -> None:
    text = """g (float[N, 8] x, bool[1] c) => (float[N, 6] y) {
        a = MatMul(x, w)
        [kept] y = If (c) <
            then_branch = t () => (float[N, 6] p) { p = MatMul(a, v) },
            else_branch = e () => (float[N, 6] q) { q = MatMul(a, u) }
        >
    }"""
    path = graph(tmp_path, text, {"w": (8, 8), "v": (8, 6), "u": (8, 6)})
    parameters = Quantize(mode="float16", force=True, ignore=["kept"])
    outcome, _ = apply(path, parameters, x=normal(8, 8), c=np.ones(8, bool))
    assert types_of(outcome) == {"w": "FLOAT16", "v": "FLOAT", "u": "FLOAT"}
    assert len(outcome.layers) == 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("m = Mul(x, big) y = Softmax(m)", {"Mul_0", "Softmax_1"}),
        ("s = Shape(x) f = ConstantOfShape<value = float[1] {-1e30}>(s) m = Add(x, f) y = Exp(m)",
         {"ConstantOfShape_1", "Add_2", "Exp_3"}),
        ("a = Abs(x) s = Add(a, tiny) r = Reciprocal(s) y = Mul(x, r)",
         {"Add_1", "Reciprocal_2", "Mul_3"}),
        ("y = Clip(x, low, big)", set()),
        ("m = Max(x, low) c = Less(m, big) y = Where(c, m, x)", set()),
    ],
    ids=["product", "filled", "epsilon", "no bound", "compared"],
)  # fmt: skip
def test_numbers_that_half_does_not_have_are_followed_as_far_as_they_last(
    tmp_path: Path, text: str, left: set[str]
) -> None:
    whole = f"g (float[N, 8] x) => (float[N, 6] z) {{ {text} z = MatMul(y, w) }}"
    path = graph(tmp_path, whole, {"w": (8, 6)})
    proto = onnx.load(path)
    for name, number in (("big", 1e30), ("low", -1e30), ("tiny", 1e-12)):
        array = np.array(number, np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, path)
    outcome, sqnr = apply(path, FLOAT16, x=normal(16, 8))
    assert reasons(outcome).keys() == left
    assert len(outcome.layers) == 1
    assert sqnr > 45


def test_what_the_data_shows_to_be_too_large_stays(tmp_path: Path) -> None:
    text = """g (float[N, 8] x) => (float[N, 6] y) {
        a = MatMul(x, w)
        b = Mul(a, a)
        c = Sqrt(b)
        y = MatMul(c, v)
    }"""
    path = graph(tmp_path, text, {"w": (8, 8), "v": (8, 6)})
    outcome, sqnr = apply(path, FLOAT16, x=300 * normal(16, 8))
    assert reasons(outcome).keys() == {"Mul_1", "Sqrt_2"}
    assert "65,504" in reasons(outcome)["Mul_1"]
    assert sqnr > 45


def test_a_weight_that_both_types_read_is_stored_once(tmp_path: Path) -> None:
    text = """g (float[N, 8] x) => (float[N, 8] y) {
        a = MatMul(x, w)
        [kept] y = MatMul(a, w)
    }"""
    path = graph(tmp_path, text, {"w": (8, 8)})
    outcome, sqnr = apply(
        path, Quantize(mode="float16", force=True, ignore=["kept"]), x=normal(16, 8)
    )
    assert types_of(outcome) == {"w": "FLOAT"}
    assert sqnr > 45
    assert load(path.with_name("quantized.onnx")).graph.num_nodes() == 5


def test_what_was_uploaded_in_float16_is_converted_back_only_after_another_step(
    tmp_path: Path,
) -> None:
    text = "g (float16[N, 40] x) => (float16[N, 40] y) { y = MatMul(x, w) }"
    path = graph(tmp_path, text, {"w": (40, 40)})
    proto = onnx.load(path)
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0]).astype(np.float16)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, path)
    inspect_model(path, tmp_path)
    original = tmp_path / "model.onnx"
    context = Context(None, 0, 1, original=original)
    graph_ = load(original)
    name_nodes(graph_)
    outcome = quantize(graph_, FLOAT16, context, lambda _: None)
    assert outcome.layers == []
    assert list(reasons(outcome).values()) == ["the model was uploaded in float16"]
    changed = load(original)
    name_nodes(changed)
    value = changed.graph.initializers["w"]
    value.const_value = ir.Tensor(constant(value) * np.float32(0.5), name="w")
    outcome = quantize(changed, FLOAT16, context, lambda _: None)
    assert [layer.change for layer in outcome.layers] == ["arithmetic float32 → float16"]
    store(outcome.model, tmp_path / "half.onnx")
    assert [node.op_type for node in load(tmp_path / "half.onnx").graph] == ["MatMul"]

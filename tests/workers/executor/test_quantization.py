"""Quantized graphs: onnxruntime's values, straight-through gradients, learned steps."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from workers.compression.executor import build

FORMS = [
    ("uint8", "{128}", "float s = {0.03}", "uint8"),
    ("int8", "{0}", "float s = {0.03}", "int8"),
    ("uint16", "{31000}", "float s = {0.0001}", "uint16"),
    ("int8", "{0, 0, 0}", "float[3] s = {0.01, 0.03, 0.0123}", "int8[3]"),
    ("uint8", "{0, 3, 255}", "float[3] s = {0.01, 0.03, 0.0123}", "uint8[3]"),
    ("int4", "{1}", "float s = {0.3}", "int4"),
]
FOUR_BITS = [
    ("uint8", "{9}", "float s = {0.3}", "uint8", (0, 15)),
    ("int8", "{-3, 0, 7}", "float[3] s = {0.1, 0.3, 0.123}", "int8[3]", (-8, 7)),
]


def graph(zero: str, scale: str, kind: str, ends: tuple[int, int] | None = None) -> onnx.ModelProto:
    """Write a quantization and what takes it back, perhaps with a Clip of the integers between."""
    q, constants = "q = QuantizeLinear(x, s, z)", ""
    if ends is not None:
        integer, (low, high) = kind.partition("[")[0], ends
        q = "r = QuantizeLinear(x, s, z)  q = Clip(r, l, h)"
        constants = f", {integer} l = {{{low}}}, {integer} h = {{{high}}}"
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[N, 3] x) => (float[N, 3] y) <{scale}, {kind} z = {zero}{constants}>
        {{ {q}  y = DequantizeLinear(q, s, z) }}"""
    )


def values() -> torch.Tensor:
    """Normal values, ties between two steps, and values far outside."""
    generator = torch.Generator().manual_seed(0)
    ties = (torch.arange(-300, 300).float() + 0.5)[:, None] * torch.tensor([0.01, 0.03, 0.0123])
    return torch.cat([torch.randn(500, 3, generator=generator), ties, torch.full((1, 3), 1e4)])


@pytest.mark.parametrize(
    ("_type", "zero", "scale", "kind", "ends"), [*((*form, None) for form in FORMS), *FOUR_BITS]
)
def test_values_are_onnxruntimes_to_the_bit(
    _type: str, zero: str, scale: str, kind: str, ends: tuple[int, int] | None, tmp_path: Path
) -> None:
    proto = graph(zero, scale, kind, ends)
    onnx.save(proto, tmp_path / "model.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(tmp_path / "model.onnx", options)
    x = values()
    (wanted,) = session.run(None, {"x": x.numpy()})
    model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))
    executor = build(model)
    assert len(executor._plan.steps) == 1
    found = executor({"x": x})["y"].detach().numpy()
    np.testing.assert_array_equal(found, wanted)
    apart = build(model, outputs=["q", "y"])({"x": x})
    np.testing.assert_array_equal(apart["y"].detach().numpy(), wanted)
    assert not apart["q"].is_floating_point()


def test_gradients_pass_within_the_range_and_stop_outside() -> None:
    proto = graph("{10}", "float s = {0.5}", "int8")
    model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))
    executor = build(model)
    # quotients 0.8, 116.9 (the last step), 118 (above), -137.9 (the first), -140 (below)
    x = torch.tensor([[0.4, 58.45, 59.0], [-68.95, -70.0, 0.0]], requires_grad=True)
    y = executor({"x": x})["y"]
    torch.testing.assert_close(y, torch.tensor([[0.5, 58.5, 58.5], [-69.0, -69.0, 0.0]]))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1, 0], [1, 0, 1]]
    slope = executor.weight("s").grad
    assert slope is not None
    # round(x / s) - x / s within, the bound outside (LSQ)
    wanted = (1 - 0.8) + (117 - 116.9) + 117 + (-138 + 137.9) - 138
    assert slope.item() == pytest.approx(wanted, rel=1e-5)


def test_where_a_clip_of_the_integers_narrows_the_range_gradients_stop_at_its_ends() -> None:
    proto = graph("{6}", "float s = {0.5}", "uint8", (0, 15))
    executor = build(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto)))
    # quotients 0.8, 8.9 (the last step), 10 (above), -5.9 (the first), -8 (below)
    x = torch.tensor([[0.4, 4.45, 5.0], [-2.95, -4.0, 0.0]], requires_grad=True)
    y = executor({"x": x})["y"]
    torch.testing.assert_close(y, torch.tensor([[0.5, 4.5, 4.5], [-3.0, -3.0, 0.0]]))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1, 0], [1, 0, 1]]
    slope = executor.weight("s").grad
    assert slope is not None
    wanted = (1 - 0.8) + (9 - 8.9) + 9 + (-6 + 5.9) - 6
    assert slope.item() == pytest.approx(wanted, rel=1e-5)


def test_a_quantized_weight_and_its_steps_are_trained() -> None:
    """Weights per channel, activations per tensor: all four kinds of parameters get gradients."""
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[N, 4] x) => (float[N, 3] y)
        <float[4, 3] w = {1.03, -2.07, 3.11, 0.52, -0.71, 0.27, 2.04, -1, 0.1, 4, 5, -6},
         float[3] ws = {0.1, 0.2, 0.3}, int8[3] wz = {0, 0, 0},
         float xs = {0.05}, uint8 xz = {128}, float[3] b = {1, 2, 3}>
        { xq = QuantizeLinear(x, xs, xz)  xd = DequantizeLinear(xq, xs, xz)
          wq = QuantizeLinear <axis = 1> (w, ws, wz)  wd = DequantizeLinear <axis = 1> (wq, ws, wz)
          m = MatMul(xd, wd)  y = Add(m, b) }"""
    )
    executor = build(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto)))
    assert set(executor.names) == {"w", "ws", "xs", "b"}
    executor({"x": values()[:50, :1].expand(-1, 4)})["y"].square().sum().backward()
    for name in executor.names:
        gradient = executor.weight(name).grad
        assert gradient is not None
        assert bool((gradient.abs() > 1e-3).all())


def test_integers_that_are_read_otherwise_stop_gradients_and_are_named() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[N, 3] x) => (float[3, N] y) <float s = {0.03}, int8 z = {0}>
        { q = QuantizeLinear(x, s, z)  t = Transpose(q)  y = DequantizeLinear(t, s, z) }"""
    )
    executor = build(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto)))
    assert [(each.node, each.reason) for each in executor.frozen] == [
        ("QuantizeLinear of q", "it runs without gradient: no DequantizeLinear follows at once")
    ]


def test_stored_integers_are_no_parameters_but_their_scale_is() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[N, 2] x) => (float[N, 2] y)
        <int8[2, 2] w = {1, -2, 3, 4}, float s = {0.5}>
        { d = DequantizeLinear(w, s)  y = MatMul(x, d) }"""
    )
    executor = build(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto)))
    assert set(executor.names) == {"s"}
    y = executor({"x": torch.ones(1, 2)})["y"]
    assert y.tolist() == [[2.0, 1.0]]
    y.sum().backward()
    assert executor.weight("s").grad == 6

"""The executor computes onnxruntime's own operators as onnxruntime does, with gradients."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper

from workers.compression.executor import build
from workers.compression.executor.operators import OPERATORS
from workers.compression.graph import runtime

MICROSOFT = "com.microsoft"
X, WIDTH = (2, 3, 8), 8

CASES: dict[str, tuple[str, dict[str, tuple[int, ...]], dict[str, object]]] = {
    "BiasGelu": ("BiasGelu", {"b": (WIDTH,)}, {}),
    "FastGelu": ("FastGelu", {}, {}),
    "FastGelu with a bias": ("FastGelu", {"b": (WIDTH,)}, {}),
    "Gelu": ("Gelu", {}, {}),
    "QuickGelu": ("QuickGelu", {}, {"alpha": 1.5}),
    "FusedMatMul": ("FusedMatMul", {"w": (WIDTH, 5)}, {"alpha": 0.25}),
    "FusedMatMul, turned": (
        "FusedMatMul", {"w": (2, 4, 3)}, {"transA": 1, "transB": 1}
    ),
    "SkipLayerNormalization": (
        "SkipLayerNormalization", {"s": X, "g": (WIDTH,), "c": (WIDTH,), "b": (WIDTH,)},
        {"epsilon": 1e-5},
    ),
    "SkipSimplifiedLayerNormalization": (
        "SkipSimplifiedLayerNormalization", {"s": X, "g": (WIDTH,)}, {"epsilon": 1e-5}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_of_the_runtime_is_trained_through(name: str, tmp_path: Path) -> None:
    operator, weights, attributes = CASES[name]
    random = np.random.default_rng(0)
    tensors = [
        onnx.numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), each)
        for each, shape in weights.items()
    ]
    node = helper.make_node(operator, ["x", *weights], ["y"], domain=MICROSOFT, **attributes)
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", 1, X)], [value("y", 1, None)], tensors)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    x = random.standard_normal(X).astype(np.float32)
    executor = build(ir.load(path))
    assert executor.frozen == []
    data = torch.from_numpy(x).requires_grad_()
    found = executor({"x": data})["y"]
    wanted = runtime.run(runtime.open_session(path), {"x": x})["y"]
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    assert all(each.grad is not None for each in (data, *executor.parameters()))


def test_every_operator_of_the_runtime_has_a_case() -> None:
    """But for the two of quantization, which are the standard's; see test_quantization."""
    rows = {operator for domain, operator in OPERATORS if domain == MICROSOFT}
    cased = {operator for operator, _, _ in CASES.values()}
    assert rows - cased == {"QuantizeLinear", "DequantizeLinear"}

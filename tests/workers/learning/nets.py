"""Graphs as ONNX text with weights from a seed, and samples that they can learn."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.jobs import Evaluate
from workers.compression.executor import build
from workers.compression.graph.load import load, save
from workers.compression.samples.context import Context, Samples

Array = NDArray[np.float32]

MLP = """
<ir_version: 10, opset_import: ["": 21]>
mlp (float[BATCH, 8] x) => (float[BATCH, 4] y)
{
    h = Gemm<transB=1>(x, w1, b1)
    r = Relu(h)
    y = Gemm<transB=1>(r, w2, b2)
}
"""
MLP_SHAPES = {"w1": (32, 8), "b1": (32,), "w2": (4, 32), "b2": (4,)}

CNN = """
<ir_version: 10, opset_import: ["": 21]>
cnn (float[BATCH, 1, 6, 6] x) => (float[BATCH, 4] y)
{
    c = Conv<pads=[1, 1, 1, 1]>(x, k, kb)
    r = Relu(c)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Gemm<transB=1>(f, w, b)
}
"""
CNN_SHAPES = {"k": (8, 1, 3, 3), "kb": (8,), "w": (4, 8), "b": (4,)}


def graph(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> ir.Model:
    """Return a graph with random weights."""
    rng = np.random.default_rng(seed)
    model = ir.from_onnx_text(text)
    for name, shape in shapes.items():
        scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
        array = (rng.standard_normal(shape) * scale).astype(np.float32)
        value = ir.Value(
            name=name,
            const_value=ir.Tensor(array, name=name),
            shape=ir.Shape(shape),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        model.graph.initializers[name] = value
        for node in model.graph:
            for slot, each in enumerate(node.inputs):
                if each is not None and each.name == name:
                    node.replace_input_with(slot, value)
    return model


def stored(model: ir.Model, path: Path) -> Path:
    save(model, path)
    onnx.checker.check_model(str(path))
    return path


def damaged(path: Path, noise: float = 0.5, seed: int = 1) -> ir.Model:
    """Return a graph with noise on its weights: what a step might have left."""
    rng = np.random.default_rng(seed)
    model = load(path)
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        array = value.const_value.numpy()
        wrong = noise * array.std() * rng.standard_normal(array.shape)
        value.const_value = ir.Tensor((array + wrong).astype(np.float32), name=name)
    return model


def inputs(count: int, *shape: int, seed: int = 2) -> Array:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def context(
    original: Path,
    x: Array,
    targets: NDArray[np.generic] | None = None,
    workspace: Path | None = None,
    **fields: object,
) -> Context:
    samples = Samples({"x": x}, targets, list(range(len(x))))
    return Context(
        train=samples,
        seed=0,
        threads=1,
        original=original,
        workspace=workspace,
        evaluate=Evaluate(**fields),  # type: ignore[arg-type]
    )


def answer(model: ir.Model, x: Array) -> Array:
    """Return the first output on all samples at once."""
    import torch

    with torch.no_grad():
        found = build(model)({"x": torch.from_numpy(x)})
    result: Array = next(iter(found.values())).numpy()
    return result


def error(model: ir.Model, original: Path, x: Array) -> float:
    """Return the squared error against the original over its variance."""
    wanted = answer(load(original), x)
    return float(np.mean((answer(model, x) - wanted) ** 2) / wanted.var())


def weights(model: ir.Model) -> dict[str, Array]:
    return {
        name: value.const_value.numpy().copy()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }

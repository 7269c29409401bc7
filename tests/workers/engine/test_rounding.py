"""Weights are rounded so that the errors of a layer's outputs cancel."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import named, store_graph
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph import runtime
from workers.compression.graph.editor import constant
from workers.compression.graph.load import load
from workers.compression.looking.positions import read_at
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize, rounding
from workers.compression.methods.quantize.descent import descend
from workers.compression.methods.quantize.levels import Levels
from workers.compression.methods.quantize.rounding import Rounding
from workers.compression.samples.context import Context, Samples

SEEN = 64
"""The first samples are those of the job; the others judge."""


@given(
    seed=st.integers(0, 2**31),
    groups=st.integers(1, 3),
    outputs=st.integers(1, 5),
    inputs=st.integers(1, 80),
    correlated=st.booleans(),
    shared=st.booleans(),
)
def test_no_output_gets_worse_and_weights_go_up_or_down(
    seed: int, groups: int, outputs: int, inputs: int, *, correlated: bool, shared: bool
) -> None:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((groups, outputs, inputs)).astype(np.float32)
    mixing = random.standard_normal((inputs, inputs)) if correlated else np.eye(inputs)
    read = (random.standard_normal((groups, 100, inputs)) @ mixing).astype(np.float32)
    second = read.mT @ read / np.float32(100)
    levels = Levels.grid(np.abs(weights).max(-1, keepdims=True) / np.float32(7), -7, 7)
    if shared:
        values = np.sort(random.standard_normal(random.integers(1, 16))).astype(np.float32)
        levels = Levels(np.ones((1, 1, 1), np.float32), values)
    rounded, nearest = descend(weights, levels, second, second), levels.nearest(weights)
    assert np.allclose(rounded, levels.nearest(rounded), atol=1e-4)
    below, above = levels.around(weights)
    assert ((rounded == below) | (rounded == above)).all()
    assert ((nearest == below) | (nearest == above)).all()
    pulled = second + 0.01 * np.eye(inputs) * np.trace(second, axis1=1, axis2=2)[:, None, None] / (
        inputs
    )
    errors = [
        np.einsum("goi,gij,goj->go", r - weights, pulled, r - weights) for r in (rounded, nearest)
    ]
    assert (errors[0] <= errors[1] * 1.001 + 1e-6).all()
    assert np.array_equal(rounded, descend(weights, levels, second, second))


@pytest.mark.parametrize(
    ("shape", "weight", "attributes"),
    [
        ((2, 6, 7, 5), (4, 6, 3, 2), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
        ((2, 6, 9, 9), (6, 2, 3, 3), {"group": 3, "dilations": [2, 2]}),
        ((3, 4, 11), (5, 4, 3), {"pads": [1, 1]}),
    ],
)
def test_a_convolution_multiplies_what_is_read(
    tmp_path: Path, shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    random = np.random.default_rng(0)
    w = random.standard_normal(weight).astype(np.float32)
    x = random.standard_normal(shape).astype(np.float32)
    proto = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], "layer", **attributes)],
        [value("x", "N", *shape[1:])], [value("y", *"Nabcd"[: len(shape)])],
        [tensor("w", w)],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    y = runtime.run(runtime.open_session(path), {"x": x})["y"]
    rows, places = read_at(load(path).graph[0], x, 50, random)
    groups = attributes.get("group", 1)
    read = rows.reshape(len(rows), groups, -1)
    kernels = w.reshape(groups, weight[0] // groups, -1)
    computed = np.einsum("pgi,goi->pgo", read, kernels).reshape(len(rows), -1)
    assert np.allclose(computed, np.moveaxis(y, 1, -1)[places], atol=1e-4)


def net(path: Path, kind: str) -> dict[str, np.ndarray[Any, Any]]:
    """Store a net of two layers; return correlated inputs, of which few differ from the others."""
    random = np.random.default_rng(1)
    groups = 16 if kind == "depthwise" else 1
    shapes = {"w1": (16, 16 // groups, 3, 3), "w2": (6, 16, 3, 3), "w3": (16, 24), "w4": (24, 6)}
    arrays = {name: random.standard_normal(shape) / 8 for name, shape in shapes.items()}
    arrays |= {"b1": random.standard_normal(16) / 4}
    base = random.standard_normal((96, 4, 6, 6))
    x = np.einsum("nkhw,ck->nchw", base, random.standard_normal((16, 4)))
    ends = [value("x", "N", 16, 6, 6)], [value("y", "N", 6, 2, 2)]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "first", group=groups),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"], "second"),
    ]
    if kind == "products":
        x, ends = x.mean((2, 3)), ([value("x", "N", 16)], [value("y", "N", 6)])
        nodes = [
            helper.make_node("MatMul", ["x", "w3"], ["a"], "first"),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("Gemm", ["r", "w4"], ["y"], "second"),
        ]
    read = {name for node in nodes for name in node.input}
    inits = [tensor(n, a.astype(np.float32)) for n, a in arrays.items() if n in read]
    store_graph(path, nodes, *ends, inits)
    return {"x": x.astype(np.float32)}


def context_of(arrays: dict[str, np.ndarray[Any, Any]], **fields: Any) -> Context:
    """Return the context of a step on the first samples."""
    return Context(Samples(arrays, None, range(SEEN)), seed=0, threads=1, **fields)


def run(
    path: Path,
    arrays: dict[str, np.ndarray[Any, Any]],
    context: Context | None = None,
    **fields: Any,
) -> Outcome:
    """Quantize the net by force."""
    wish = {"mode": "static", "weights": "int4", "force": True, "smooth": False, "equalize": False}
    parameters = Quantize.model_validate({**wish, "ranges": "minmax", **fields})
    graph = named(path)
    return quantize(graph, parameters, context or context_of(arrays), lambda _: None)


def error(path: Path, arrays: dict[str, np.ndarray[Any, Any]], graph: ir.Model) -> float:
    """Return the mean square of the outputs' errors on samples that no step has seen."""
    feeds = {"x": arrays["x"][SEEN:]}
    expected = runtime.run(runtime.open_session(path), feeds)["y"]
    answer = runtime.run(runtime.session_of(graph), feeds)["y"]
    return float(np.square(answer - expected).mean())


@pytest.mark.parametrize("kind", ["plain", "depthwise", "products"])
@pytest.mark.parametrize("correct_bias", [True, False])
def test_outputs_come_nearer(tmp_path: Path, kind: str, *, correct_bias: bool) -> None:
    path = tmp_path / "model.onnx"
    arrays = net(path, kind)
    nearest = run(path, arrays, learn_rounding=False, correct_bias=correct_bias)
    learned = run(path, arrays, learn_rounding=True, correct_bias=correct_bias)
    assert error(path, arrays, learned.model) < 0.7 * error(path, arrays, nearest.model)
    assert "Layers whose rounding was learned: 2." in learned.notes
    assert not any("rounding" in note for note in nearest.notes)


def test_by_itself_it_is_done_where_outputs_come_nearer(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arrays = net(path, "plain")
    free = run(path, arrays, correct_bias=False)
    nearest = run(path, arrays, correct_bias=False, learn_rounding=False)
    assert free.notes[0].startswith("The rounding of 2 layers' weights was learned: the outputs'")
    assert error(path, arrays, free.model) < error(path, arrays, nearest.model)


def test_weights_that_are_only_stored_learn_too(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arrays = net(path, "plain")
    stored: dict[str, Any] = {"mode": "weight_only", "unpack": "load", "force": False}
    nearest = run(path, arrays, **stored, learn_rounding=False)
    free = run(path, arrays, **stored)
    assert error(path, arrays, free.model) < 0.7 * error(path, arrays, nearest.model)
    assert free.notes[0].startswith("The rounding of")
    sizes = [[layer.bytes_after for layer in each.layers] for each in (nearest, free)]
    assert sizes[0] == sizes[1], "learned weights lie on the same grid"


def test_what_stays_in_float_keeps_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arrays = net(path, "plain")
    part = run(path, arrays, learn_rounding=True, ignore=["second"])
    weights = {str(v.name): v for v in part.model.graph.initializers.values()}["w2"].const_value
    original = load(path).graph.initializers["w2"].const_value
    assert weights is not None
    assert original is not None
    assert np.array_equal(weights.numpy(), original.numpy())


def test_layers_are_learned_in_parts_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "_MEMORY", 1)
    path = tmp_path / "model.onnx"
    arrays = net(path, "products")
    learned = run(path, arrays, learn_rounding=True, correct_bias=False)
    nearest = run(path, arrays, learn_rounding=False, correct_bias=False)
    assert "Layers whose rounding was learned: 2." in learned.notes
    assert error(path, arrays, learned.model) < 0.7 * error(path, arrays, nearest.model)


def test_no_further_layer_is_learned_after_the_deadline(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arrays = net(path, "products")
    graph = named(path)
    weights = {"first": "w3", "second": "w4"}
    levels = Levels.grid(np.full(1, 0.1, np.float32), -7, 7)
    layers = [
        Rounding(node, constant(graph.graph.initializers[weights[str(node.name)]]), levels,
                 data=None, centred=False)
        for node in graph.graph if node.name in weights
    ]  # fmt: skip
    clock = itertools.count(1)  # it is looked at before the pass, and before each layer
    context = context_of(arrays, clock=lambda: next(clock), deadline=3)
    assert context.train is not None
    assert len(rounding.learned_weights(graph, layers, context.train, context)) == 1


def test_layers_that_read_what_is_not_finite_keep_to_the_nearest_levels(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arrays = net(path, "products")
    arrays["x"][3, 3] = np.inf
    learned = run(path, arrays, learn_rounding=True, correct_bias=False)
    assert not any("learned" in note for note in learned.notes)


def test_of_weights_that_stay_as_they_were_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arrays = net(path, "plain")
    context = context_of(arrays, max_quality_drop=1e-9)
    stored: dict[str, Any] = {"mode": "weight_only", "unpack": "load", "force": False}
    left = run(path, arrays, context, **stored, learn_rounding=True)
    assert not left.layers
    assert not any("learned" in note for note in left.notes)


def test_other_modes_say_that_they_learn_nothing() -> None:
    with pytest.raises(ValueError, match="learns no rounding"):
        Quantize(mode="dynamic", learn_rounding=True)
    with pytest.raises(ValueError, match="'ratio' learns no rounding"):
        Quantize(mode="weight_only", unpack="load", ratio=0.8, learn_rounding=True)

"""Quantization leaves alone what would be slower or larger, and by itself finds what pays."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import named, store_graph
from tests.workers.intake.models import model, tensor, value
from tests.workers.nearness import outputs_explained
from workers.compression.graph.load import load, store
from workers.compression.graph.narrow import stored_type
from workers.compression.graph.packing import packed
from workers.compression.measure.latency import time_ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.methods.quantize.exclusions import NOT_SLOWER, file_bytes, unprofitable
from workers.compression.methods.quantize.rest import store_rest
from workers.compression.samples.context import Context, Samples

RNG = np.random.default_rng(5)

CHAIN = 120
"""Products of 24 x 24, each of which is over before the range of its input is known."""


def chain(path: Path) -> Context:
    """Store a graph of small products, which nothing makes faster; return data for it."""
    nodes, value_ = [], "x"
    for index in range(CHAIN):
        nodes.append(helper.make_node("MatMul", [value_, f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Tanh", [f"m{index}"], [f"t{index}"]))
        value_ = f"t{index}"
    weights = [
        tensor(f"w{index}", (RNG.standard_normal((24, 24)) / 4).astype(np.float32))
        for index in range(CHAIN)
    ]
    outputs = [value(value_, "N", 24)]
    onnx.save(model(nodes, [value("x", "N", 24)], outputs, weights), path)
    x = RNG.standard_normal((64, 24)).astype(np.float32)
    return context_of(path, {"x": x})


def tagger(path: Path) -> Context:
    """Store a graph most of which is a table and two recurrent weights; return data for it."""
    shapes = {"table": (3000, 48), "W": (1, 288, 48), "R": (1, 288, 96), "head": (96, 12)}
    weights = [
        tensor(name, (RNG.standard_normal(shape) / 6).astype(np.float32))
        for name, shape in shapes.items()
    ]
    axes = helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "W", "R"], ["all", ""], hidden_size=96),
        helper.make_node("Squeeze", ["all", "axes"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["batch"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["batch", "head"], ["scores"]),
    ]
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N", 20])
    outputs = [value("scores", "N", 20, 12)]
    store_graph(path, nodes, [ids], outputs, [*weights, axes])
    return context_of(path, {"ids": RNG.integers(0, 3000, (96, 20))})


def context_of(path: Path, arrays: dict[str, Any]) -> Context:
    """Return a context with data, of which the last quarter is kept back."""
    count = len(next(iter(arrays.values())))
    samples = Samples(arrays, None, range(count * 3 // 4))
    return Context(samples, seed=0, threads=1, example=samples.first_run(), original=path)


def step(path: Path, context: Context, **parameters: Any) -> Outcome:
    """Quantize a graph on disk."""
    return quantize(named(path), Quantize(**parameters), context, lambda _: None)


def operators(graph: ir.Model) -> Counter[str]:
    """Count the nodes of a graph by operator."""
    return Counter(node.op_type for node in graph.graph)


def test_products_that_are_slower_in_integers_stay_in_float(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    context = chain(path)
    forced = step(path, context, mode="dynamic", force=True, smooth=False)
    assert operators(forced.model)["MatMulInteger"] == CHAIN
    assert time_ratio(load(path), forced.model, context.example, 1).value < NOT_SLOWER
    free = step(path, context, mode="dynamic", smooth=False)
    assert operators(free.model)["MatMulInteger"] == 0
    assert free.skipped
    assert all(re.search("slower|faster|larger", skipped.reason) for skipped in free.skipped)
    assert file_bytes(free.model) <= file_bytes(named(path))


def test_only_the_layers_that_harm_are_taken_back(tmp_path: Path) -> None:
    """Of large products and a chain of small ones, the large ones compute in integers."""
    path = tmp_path / "model.onnx"
    chain(path)
    proto = onnx.load(path)
    graph = proto.graph
    wide = (RNG.standard_normal((24, 2048)) / 5).astype(np.float32)
    square = (RNG.standard_normal((2048, 1024)) / 45).astype(np.float32)
    graph.initializer.extend([tensor("wide", wide), tensor("square", square)])
    last = graph.output[0].name
    graph.node.extend(
        [
            helper.make_node("MatMul", [last, "wide"], ["a"], "wide"),
            helper.make_node("MatMul", ["a", "square"], ["y"], "square"),
        ]
    )
    del graph.output[:]
    graph.output.append(value("y", "N", 1024))
    onnx.save(proto, path)
    context = context_of(path, {"x": RNG.standard_normal((64, 24)).astype(np.float32)})
    context = replace(context, example={"x": RNG.standard_normal((256, 24)).astype(np.float32)})
    outcome = step(path, context, mode="dynamic", smooth=False)
    done = {layer.node for layer in outcome.layers if "uint8" in layer.change}
    assert "square" in done


def test_nothing_is_timed_where_there_is_nothing_to_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    context = replace(chain(path), example={})
    graph = named(path)
    layers = {str(node.name): node for node in graph.graph if node.op_type == "MatMul"}

    def write(left: Any) -> Outcome:
        return Outcome(graph, [], [])

    assert unprofitable(write, graph, layers, context).excluded == {}


@pytest.mark.parametrize("mode", ["static", "dynamic", "float16", "auto"])
@pytest.mark.parametrize("make", [chain, tagger])
def test_no_mode_makes_a_file_larger(tmp_path: Path, make: Any, mode: str) -> None:
    path = tmp_path / "model.onnx"
    context = make(path)
    outcome = step(path, context, mode=mode)
    assert file_bytes(outcome.model) <= file_bytes(named(path))


def test_without_data_weights_are_stored_and_nothing_computes_in_integers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    context = replace(tagger(path), train=None)
    outcome = step(path, context)
    assert operators(outcome.model) == operators(load(path))
    assert any("not measured on real data" in note for note in outcome.notes)
    assert file_bytes(load(path)) > 3.5 * file_bytes(outcome.model)


@pytest.mark.parametrize(
    ("prefer", "bound", "smaller"),
    [("balanced", 0.02, 3.5), ("speed", 0.02, 3.5), ("size", 0.1, 4.5)],
)
def test_the_default_keeps_the_bound_in_a_smaller_file(
    tmp_path: Path, prefer: str, bound: float, smaller: float
) -> None:
    path = tmp_path / "model.onnx"
    context = tagger(path)
    assert context.train is not None
    outcome = step(path, replace(context, max_quality_drop=bound), prefer=prefer)
    out = tmp_path / "small.onnx"
    store(packed(outcome.model), out)
    assert path.stat().st_size > smaller * out.stat().st_size
    others = context.train.take(range(72, 96))
    assert outputs_explained(path, out, others) > 1 - 1.5 * bound


def test_what_is_ignored_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    context = tagger(path)
    graph = named(path)
    look_up = next(str(node.name) for node in graph.graph if node.op_type == "Gather")
    outcome = step(path, context, ignore=[look_up])
    table = graph.graph.initializers["table"].const_value
    kept = outcome.model.graph.initializers["table"].const_value
    assert table is not None
    assert kept is not None
    np.testing.assert_array_equal(kept.numpy(), table.numpy())
    assert [each.node for each in outcome.skipped if each.reason == "named in 'ignore'"]


def test_a_layer_in_integers_is_not_refused_for_its_integers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    context = tagger(path)
    integers = step(path, context, mode="dynamic", force=True)
    outcome = store_rest(integers, Quantize(), None, context, None)
    done = {layer.node for layer in outcome.layers}
    assert len(done) > len(integers.layers) > 0
    assert {item.node for item in outcome.skipped} <= {node.name for node in named(path).graph}
    assert not done & {item.node for item in outcome.skipped}


@pytest.mark.parametrize("mode", ["dynamic", "static", "float16"])
def test_what_is_asked_for_is_done_where_a_graph_is_too_small_for_anything_to_pay(
    tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "model.onnx"
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = tensor("w", RNG.standard_normal((2, 2)).astype(np.float32))
    onnx.save(model([node], [value("x", "N", 2)], [value("y", "N", 2)], [weight]), path)
    context = context_of(path, {"x": RNG.standard_normal((64, 2)).astype(np.float32)})
    assert step(path, context, mode=mode).layers
    assert step(path, context, mode="auto").layers == []


def wide(path: Path) -> Context:
    """Store a net of large products, which are faster in integers and lose little."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["m0"], "first"),
        helper.make_node("Relu", ["m0"], ["r0"]),
        helper.make_node("MatMul", ["r0", "w1"], ["m1"], "second"),
        helper.make_node("Relu", ["m1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["y"], "last"),
    ]
    shapes = [(64, 768), (768, 768), (768, 24)]
    weights = [
        tensor(f"w{i}", (RNG.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32))
        for i, shape in enumerate(shapes)
    ]
    store_graph(path, nodes, [value("x", "N", 16, 64)], [value("y", "N", 16, 24)], weights)
    return context_of(path, {"x": RNG.standard_normal((64, 16, 64)).astype(np.float32)})


def test_the_default_is_no_worse_than_a_plain_mode_that_keeps_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    outcome = step(path, wide(path), smooth=False)
    titles = [choice.title for choice in outcome.choices]
    assert "integers with ranges from data, throughout" in titles
    (chosen,) = [choice for choice in outcome.choices if choice.chosen]
    assert (chosen.lost or 0.0) <= 0.01
    for other in outcome.choices:
        allowed = (other.lost or 0.0) <= 0.01 and (other.speedup or 1.0) >= 1
        better = other.size_bytes < chosen.size_bytes and (other.speedup or 1.0) > (
            chosen.speedup or 1.0
        )
        assert not (allowed and better), other.title


def test_half_precision_is_no_way_around_the_bound(tmp_path: Path) -> None:
    """Weights that differ by less than a step of half: rounded, they change the answers."""
    path = tmp_path / "model.onnx"
    weight = (1000 + RNG.standard_normal((32, 40)) / 20).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "layer")]
    outputs = [value("y", "N", 40)]
    store_graph(path, nodes, [value("x", "N", 32)], outputs, [tensor("w", weight)])
    x = RNG.standard_normal((64, 32)).astype(np.float32)
    outcome = step(path, context_of(path, {"x": x}), smooth=False)
    assert outcome.layers == []
    assert stored_type(outcome.model) is None
    (chosen,) = [choice for choice in outcome.choices if choice.chosen]
    assert chosen.lost == 0

"""Channels between convolutions get like ranges, and the float graph computes what it did."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import named, store_graph
from tests.workers.intake.models import tensor, value
from workers.compression.graph import runtime
from workers.compression.graph.editor import constant
from workers.compression.looking.channels import channel_statistics
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.methods.quantize.equalize import candidates, equalize
from workers.compression.methods.quantize.integers import weight_rounding
from workers.compression.samples.context import Context, Samples

CHANNELS = 12
LAYERS = ["first", "middle", "last"]


def net(path: Path, between: str, *, depthwise: bool, seed: int = 0) -> Path:
    """Store three convolutions; channels of the first differ in range by up to a thousand times."""
    rng = np.random.default_rng(seed)
    shapes = {"w1": (CHANNELS, 3, 3, 3), "w2": (CHANNELS, 1 if depthwise else CHANNELS, 3, 3)}
    shapes |= {"w3": (5, CHANNELS, 1, 1)}
    arrays = {name: rng.standard_normal(shape) / 4 for name, shape in shapes.items()}
    arrays |= {name: rng.standard_normal(CHANNELS) / 4 for name in ("b1", "b2")}
    ranges = 10.0 ** rng.uniform(-3, 0, CHANNELS)
    arrays["w1"] *= ranges[:, None, None, None]
    arrays["b1"] *= ranges
    arrays["w2"] /= ranges[:, None, None, None] if depthwise else ranges[None, :, None, None]
    bounds = ["low", "high"] if between == "Clip" else []
    inits = [tensor(name, array.astype(np.float32)) for name, array in arrays.items()]
    inits += [tensor(name, np.array(x, np.float32)) for name, x in (("low", 0), ("high", 6))]
    attributes = {"kernel_shape": [2, 2]} if between == "MaxPool" else {}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "first"),
        helper.make_node(between, ["a", *bounds], ["r"], "between", **attributes),
        helper.make_node(
            "Conv", ["r", "w2", "b2"], ["c"], "middle", group=CHANNELS if depthwise else 1
        ),
        helper.make_node("Relu", ["c"], ["s"], "after"),
        helper.make_node("Conv", ["s", "w3"], ["y"], "last"),
    ]
    store_graph(path, nodes, [value("x", "N", 3, 9, 9)], [value("y", "N", 5, "h", "w")], inits)
    return path


def samples(seed: int = 0) -> Samples:
    x = np.random.default_rng(seed).standard_normal((64, 3, 9, 9)).astype(np.float32)
    return Samples({"x": x}, None, range(48))


def biases(graph: ir.Model, name: str) -> Any:
    node = next(node for node in graph.graph if node.name == name)
    assert node.inputs[2] is not None
    return constant(node.inputs[2])


def answers(graph: ir.Model) -> Any:
    return runtime.run(runtime.session_of(graph), {"x": samples().arrays["x"][48:]})["y"]


def quantized(path: Path, **wish: Any) -> Outcome:
    parameters = Quantize.model_validate(
        {"mode": "static", "force": True, "smooth": False, "ranges": "minmax",
         "correct_bias": False} | wish
    )  # fmt: skip
    return quantize(named(path), parameters, Context(samples(), 0, 1), lambda _: None)


@given(
    seed=st.integers(0, 1000),
    depthwise=st.booleans(),
    between=st.sampled_from(["Relu", "LeakyRelu", "MaxPool", "Identity"]),
)
@settings(max_examples=12)
def test_the_float_graph_computes_what_it_did(
    tmp_path_factory: pytest.TempPathFactory, seed: int, depthwise: bool, between: str
) -> None:
    path = net(tmp_path_factory.mktemp("net") / "net.onnx", between, depthwise=depthwise, seed=seed)
    graph, wish = named(path), Quantize(mode="static")
    expected = answers(graph)
    changed = equalize(graph, wish, weight_rounding(wish), samples(), threads=1)
    assert changed.layers["middle"] == "equalized"
    assert np.allclose(answers(changed.model), expected, rtol=1e-3, atol=1e-4 * expected.std())
    assert np.array_equal(answers(graph), expected), "the graph that was given is not changed"


def test_channels_before_a_depthwise_convolution_get_one_range(tmp_path: Path) -> None:
    graph = named(net(tmp_path / "net.onnx", "Relu", depthwise=True))
    wish = Quantize(mode="static")
    changed = equalize(graph, wish, weight_rounding(wish), samples(), threads=1).model
    spread = []
    for each in (graph, changed):
        between = ir.convenience.create_value_mapping(each.graph)["r"]
        (found,) = channel_statistics(each, {between: 4}, samples(), 1).values()
        spread.append(found.magnitude.max() / found.magnitude.min())
    assert spread[0] > 50
    assert spread[1] < max(1.01, spread[0] / 99)


@pytest.mark.parametrize("depthwise", [True, False], ids=["depthwise", "whole"])
def test_it_brings_the_outputs_nearer_and_the_report_says_by_how_much(
    tmp_path: Path, depthwise: bool
) -> None:
    path = net(tmp_path / "net.onnx", "Relu", depthwise=depthwise)
    expected = answers(named(path))
    errors = {
        wish: float(np.square(answers(quantized(path, equalize=wish).model) - expected).mean())
        for wish in (False, None)
    }
    assert errors[None] < 0.5 * errors[False]
    free = quantized(path)
    assert any("equalized before" in n and "ratio went from" in n for n in free.notes)
    changes = {layer.node: layer.change for layer in free.layers}
    assert ", equalized" in changes["middle"]
    assert not any("equalized" in n for n in quantized(path, equalize=False).notes)


def test_a_clip_and_other_readers_are_left_alone(tmp_path: Path) -> None:
    """What a Clip lets through does not move with a factor, nor does what somebody else reads."""
    wish = Quantize(mode="static")
    path = net(tmp_path / "net.onnx", "Clip", depthwise=True)
    clipped = equalize(named(path), wish, weight_rounding(wish), samples(), threads=1)
    assert "middle" not in clipped.layers
    proto = onnx.load(net(path, "Relu", depthwise=True))
    proto.graph.output.append(value("r", "N", CHANNELS, "h2", "w2"))
    onnx.save(proto, path)
    shown = equalize(named(path), wish, weight_rounding(wish), samples(), threads=1)
    assert "middle" not in shown.layers


def test_a_channel_that_no_sample_touches_keeps_its_room(tmp_path: Path) -> None:
    """Others may touch it, and a range that was made for nothing would cut them off."""
    proto = onnx.load(net(tmp_path / "net.onnx", "Relu", depthwise=True))
    for initializer in proto.graph.initializer:
        if initializer.name in {"w1", "b1"}:
            array = onnx.numpy_helper.to_array(initializer).copy()
            array[0] = 0.0 if initializer.name == "w1" else -1.0
            initializer.CopyFrom(tensor(initializer.name, array))
    onnx.save(proto, tmp_path / "net.onnx")
    graph, wish = named(tmp_path / "net.onnx"), Quantize(mode="static")
    changed = equalize(graph, wish, weight_rounding(wish), samples(), threads=1)
    assert changed.layers["middle"] == "equalized"
    before, after = (biases(each, "first") for each in (graph, changed.model))
    assert after[0] == before[0] == -1
    assert (after[1:] / before[1:]).max() > 10


@pytest.mark.parametrize(("wish", "done"), [("equalize", "equalized"), ("smooth", "smoothed")])
def test_what_is_asked_for_is_in_every_graph_to_choose_from(
    tmp_path: Path, wish: str, done: str
) -> None:
    """What is left open, equalizing or smoothing, must not take the other with it."""
    proto = onnx.load(net(tmp_path / "net.onnx", "Relu", depthwise=True))
    proto.graph.node.append(helper.make_node("MatMul", ["z", "w4"], ["p"], "product"))
    proto.graph.input.append(value("z", "N", 8))
    proto.graph.output.append(value("p", "N", 6))
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 6)).astype(np.float32)
    proto.graph.initializer.append(tensor("w4", weight))
    onnx.save(proto, tmp_path / "net.onnx")
    rows = (rng.standard_normal((64, 8)) * ([100.0] + [1.0] * 7)).astype(np.float32)
    data = Samples({"x": samples().arrays["x"], "z": rows}, None, range(48))
    parameters = Quantize.model_validate({"mode": "static", wish: True})
    rounding = weight_rounding(parameters)
    graphs = candidates(named(tmp_path / "net.onnx"), parameters, rounding, Context(data, 0, 1))
    assert [done in graph.layers.values() for graph in graphs] == [True, True]
    assert set(graphs[-1].layers.values()) == {"equalized", "smoothed"}
    assert set(graphs[0].layers.values()) == {done}


def test_other_modes_say_that_they_equalize_nothing() -> None:
    with pytest.raises(ValueError, match="equalizes no channels"):
        Quantize(mode="dynamic", equalize=True)

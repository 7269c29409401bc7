"""A job that bounds its loss keeps it by leaving layers in float, and says which."""

import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from app.domain.jobs import Evaluate
from app.domain.steps import Quantize
from tests.workers.engine.stored import named
from tests.workers.intake.models import model, tensor, value
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.methods.quantize.calibrated import calibrate_best
from workers.compression.methods.quantize.gains import Gains
from workers.compression.methods.quantize.judging import judging_of
from workers.compression.methods.quantize.quality_bound import quantize_within_bound
from workers.compression.samples.context import Context, Samples


def net() -> onnx.ModelProto:
    """Return a classifier of ``[N, 16]`` whose first layer does not read its first input.

    The other inputs drown in the range that the first one needs.
    """
    generator = np.random.default_rng(0)
    first, second, third = (
        generator.standard_normal(shape).astype(np.float32) / 4
        for shape in ((16, 32), (32, 32), (32, 5))
    )
    first[0] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], "fragile"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "second"], ["b"], "sound"),
        helper.make_node("Tanh", ["b"], ["t"]),
        helper.make_node("MatMul", ["t", "third"], ["y"], "steady"),
    ]
    inits = {"first": first, "second": second, "third": third}
    return model(
        nodes,
        [value("x", "N", 16)],
        [value("y", "N", 5)],
        [tensor(name, array) for name, array in inits.items()],
    )


def run(
    directory: Path, bound: float | None, *, labelled: bool = False, factor: float = 500
) -> Outcome:
    """Quantize the net on data whose first input is ``factor`` times as large as the others."""
    path = directory / "model.onnx"
    onnx.save(net(), path)
    x = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    x[:, 0] *= factor
    answers = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    targets = answers.argmax(axis=1) if labelled else None
    context = Context(
        Samples({"x": x}, targets, range(160)),
        seed=0,
        threads=1,
        max_quality_drop=bound,
        evaluate=Evaluate(metric="top1" if labelled else None),
    )
    parameters = Quantize(
        mode="static", force=True, ranges="minmax", smooth=False, calibration_samples=64
    )
    graph = named(path)
    return quantize(graph, parameters, context, lambda _: None)


def test_without_a_bound_every_layer_is_quantized(tmp_path: Path) -> None:
    outcome = run(tmp_path, None)
    assert [layer.node for layer in outcome.layers] == ["fragile", "sound", "steady"]


@pytest.mark.parametrize("labelled", [False, True], ids=["agreement", "top1"])
def test_the_worst_layer_stays_in_float_and_says_why(tmp_path: Path, labelled: bool) -> None:
    outcome = run(tmp_path, 0.02, labelled=labelled)
    assert [layer.node for layer in outcome.layers] == ["sound", "steady"]
    skipped = {each.node: each.reason for each in outcome.skipped}
    assert list(skipped) == ["fragile"]
    assert skipped["fragile"].startswith("left in float to keep the drop within 0.02:")
    assert "of the outputs' variance" in skipped["fragile"]


def test_a_bound_that_is_kept_anyway_leaves_nothing_out_and_layers_have_prices(
    tmp_path: Path,
) -> None:
    outcome = run(tmp_path, 0.3, factor=1)
    assert len(outcome.layers) == 3
    assert [price.node for price in outcome.prices] == ["fragile", "sound", "steady"]
    for price, layer in zip(outcome.prices, outcome.layers, strict=True):
        assert price.bytes_saved == layer.bytes_before - layer.bytes_after
        assert (price.time_saved or 0) >= 0
        assert 0 <= price.lost < 0.3


def test_the_choice_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = run(tmp_path, 0.02), run(tmp_path, 0.02)
    assert first.skipped == second.skipped
    assert first.layers == second.layers


def regressor(path: Path) -> None:
    """Store a graph of two outputs of numbers, one a thousand times as large as the other.

    The small one reads its input through a layer whose range belongs to another input.
    """
    generator = np.random.default_rng(3)
    wide, narrow, last = (
        generator.standard_normal(shape).astype(np.float32) / 4
        for shape in ((16, 1), (16, 32), (32, 1))
    )
    narrow[0] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "narrow"], ["a"], "fragile"),
        helper.make_node("Tanh", ["a"], ["t"]),
        helper.make_node("MatMul", ["t", "last"], ["small"], "steady"),
        helper.make_node("MatMul", ["x", "wide"], ["large"], "sound"),
    ]
    inits = {"wide": wide, "narrow": narrow, "last": last}
    graph = model(
        nodes,
        [value("x", "N", 16)],
        [value("large", "N", 1), value("small", "N", 1)],
        [tensor(name, array) for name, array in inits.items()],
    )
    onnx.save(graph, path)


def test_a_small_output_beside_a_large_one_is_kept_too(tmp_path: Path) -> None:
    """Numbers are bounded by their variance, each output in its own units."""
    path = tmp_path / "model.onnx"
    regressor(path)
    x = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    x[:, 0] *= 500
    context = Context(Samples({"x": x}, None, range(160)), seed=0, threads=1, max_quality_drop=0.02)
    graph = named(path)
    wish = Quantize(
        mode="static", force=True, ranges="minmax", smooth=False, calibration_samples=64
    )
    outcome = quantize(graph, wish, context, lambda _: None)
    assert "fragile" in {each.node for each in outcome.skipped}
    assert {layer.node for layer in outcome.layers} == {"sound", "steady"}


def twins(path: Path) -> Context:
    """Store two equal branches that lose equally; return a context whose bound allows one."""
    generator = np.random.default_rng(4)
    weight = generator.standard_normal((16, 16)).astype(np.float32) / 4
    weight[0] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "left_w"], ["a"], "left"),
        helper.make_node("MatMul", ["x", "right_w"], ["b"], "right"),
    ]
    inits = [tensor(name, weight) for name in ("left_w", "right_w")]
    outputs = [value("a", "N", 16), value("b", "N", 16)]
    onnx.save(model(nodes, [value("x", "N", 16)], outputs, inits), path)
    x = generator.standard_normal((200, 16)).astype(np.float32)
    x[:, 0] *= 500
    return Context(Samples({"x": x}, None, range(160)), seed=0, threads=1, max_quality_drop=0.3)


def test_where_the_cheapest_layer_loses_too_much_others_stay_in_integers(tmp_path: Path) -> None:
    """The layer that gains by far the most is the one that breaks the bound."""
    path = tmp_path / "model.onnx"
    onnx.save(net(), path)
    x = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    x[:, 0] *= 12
    context = Context(Samples({"x": x}, None, range(160)), seed=0, threads=1, max_quality_drop=0.02)
    graph = named(path)
    parameters = Quantize(
        mode="static", force=True, ranges="minmax", smooth=False, correct_bias=False
    )
    write = calibrate_best(graph, parameters, context, lambda _: None).writer()
    outcome = quantize_within_bound(
        write, graph, ["fragile", "sound", "steady"], context, lambda _: None,
        judging_of(graph, None, context), "static", Gains("time", lambda *_: [1e6, 1.0, 1.0]),
    )  # fmt: skip
    assert [layer.node for layer in outcome.layers] == ["sound", "steady"]


@pytest.mark.parametrize("priced", [True, False], ids=["priced", "no time to price"])
@pytest.mark.parametrize("cheap", ["left", "right"])
def test_of_layers_that_lose_alike_the_one_that_gains_less_stays_in_float(
    tmp_path: Path, cheap: str, priced: bool
) -> None:
    """Both outputs are rounded alike, so that it takes the price to choose."""
    path = tmp_path / "model.onnx"
    hours = count(step=3600)
    computed = time.thread_time if priced else lambda: float(next(hours))
    context = replace(
        twins(path), evaluate=Evaluate(output="a" if cheap == "left" else "b"), computed=computed
    )
    graph = named(path)
    parameters = Quantize(
        mode="static", force=True, ranges="minmax", smooth=False, correct_bias=False
    )
    write = calibrate_best(graph, parameters, context, lambda _: None).writer()

    def gains(*_: object) -> list[float]:
        return [1.0, 100.0] if cheap == "left" else [100.0, 1.0]

    outcome = quantize_within_bound(
        write, graph, ["left", "right"], context, lambda _: None,
        judging_of(graph, None, context), "static", Gains("time", gains),
    )  # fmt: skip
    assert [skipped.node for skipped in outcome.skipped] == [cheap]
    assert {price.node: price.quantized for price in outcome.prices} == (
        {name: name != cheap for name in ("left", "right")} if priced else {}
    )
    titles = [choice.title for choice in outcome.choices]
    assert titles == ["all 2 in integers", "1 of 2 layers in float"]
    lost = [choice.lost or 0.0 for choice in outcome.choices]
    assert lost[0] > (context.max_quality_drop or 0.0) >= lost[1]
    assert outcome.choices[0].size_bytes < outcome.choices[1].size_bytes


@pytest.mark.parametrize("fragile", ["left", "right"])
def test_what_a_chart_says_is_not_measured_again(tmp_path: Path, fragile: str) -> None:
    """Both layers are alike, so that the chart alone tells them apart."""
    path = tmp_path / "model.onnx"
    context = twins(path)
    losses = {name: 0.5 if name == fragile else 0.1 for name in ("left", "right")}
    context = replace(context, losses=losses, evaluate=Evaluate(output="a"))
    graph = named(path)
    wish = Quantize(mode="static", force=True, ranges="minmax", smooth=False, correct_bias=False)
    outcome = quantize_within_bound(
        calibrate_best(graph, wish, context, lambda _: None).writer(), graph, ["left", "right"],
        context, lambda _: None, judging_of(graph, None, context), "static",
        Gains("time", lambda *_: [1.0, 1.0]),
    )  # fmt: skip
    assert {price.node: price.lost for price in outcome.prices} == pytest.approx(losses)
    assert any("chart of sensitivity" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("share", "in_integers"),
    [(0.0, {"sound", "steady"}), (1.0, set())],
    ids=["nothing", "all of it"],
)
def test_a_choice_of_layers_leaves_what_is_reserved(
    tmp_path: Path, share: float, in_integers: set[str]
) -> None:
    """What comes after the choice may need all of the bound; every layer loses some of it."""
    path = tmp_path / "model.onnx"
    regressor(path)
    x = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    x[:, 0] *= 500
    context = Context(Samples({"x": x}, None, range(160)), seed=0, threads=1, max_quality_drop=0.02)
    graph = named(path)
    wish = Quantize(mode="static", force=True, ranges="minmax", smooth=False, correct_bias=False)
    judging = judging_of(graph, None, context)
    assert judging is not None
    reserved = share * judging.limit
    outcome = quantize_within_bound(
        calibrate_best(graph, wish, context, lambda _: None).writer(), graph,
        ["fragile", "sound", "steady"], context, lambda _: None, judging, "static",
        Gains("time", lambda *_: [1.0, 1.0, 1.0]), reserve=lambda: reserved,
    )  # fmt: skip
    assert {layer.node for layer in outcome.layers} == in_integers


def test_a_search_ends_where_its_result_would_not_be_wanted(tmp_path: Path) -> None:
    """Layers in float cost time, and another graph is known that is as fast as this one at best."""
    path = tmp_path / "model.onnx"
    context = twins(path)
    graph = named(path)
    wish = Quantize(mode="static", force=True, ranges="minmax", smooth=False, correct_bias=False)
    write = calibrate_best(graph, wish, context, lambda _: None).writer()

    def titles(fastest: float) -> list[str]:
        outcome = quantize_within_bound(
            write, graph, ["left", "right"], replace(context, evaluate=Evaluate(output="a")),
            lambda _: None, judging_of(graph, None, context), "static",
            Gains("time", lambda *_: [1.0, 1.0]), lambda speedup: speedup <= fastest,
        )  # fmt: skip
        return [choice.title for choice in outcome.choices]

    assert titles(0.0) == ["all 2 in integers", "1 of 2 layers in float"]
    assert titles(np.inf) == ["all 2 in integers"]


def test_no_time_keeps_the_bound_without_a_search(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    context = replace(twins(path), deadline=0.0)
    graph = named(path)
    parameters = Quantize(
        mode="static", force=True, ranges="minmax", smooth=False, correct_bias=False
    )
    outcome = quantize(graph, parameters, context, lambda _: None)
    assert {skipped.node for skipped in outcome.skipped} == {"left", "right"}

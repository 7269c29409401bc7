"""What stretches ranges moves into weights: floats answer as before, integers more nearly so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import helper

from app.domain.steps import Quantize
from tests.workers import zoo
from tests.workers.engine.stored import named
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph import runtime
from workers.compression.graph.editor import constant, name_nodes
from workers.compression.graph.load import load, save
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.methods.quantize.comparison import calibrating, split_samples
from workers.compression.methods.quantize.integers import weight_rounding
from workers.compression.methods.quantize.smooth import Smoothed, smooth
from workers.compression.samples.context import Context, Samples

SAMPLES = 64
PRODUCTS = {"operators": ["Gemm", "MatMul"], "ranges": "minmax"}
OUTLIER = 40.0

Feeds = Mapping[str, NDArray[Any]]


def network(name: str, *, outliers: bool = True) -> tuple[ir.Model, Samples]:
    """Return a network of the zoo, one channel of each normalisation far out, and data for it."""
    graph = zoo.graph(name)
    name_nodes(graph)
    for node in graph.graph if outliers else ():
        if node.op_type == "LayerNormalization" and (scale := node.inputs[1]) is not None:
            values = constant(scale).copy()
            values[3] = OUTLIER
            scale.const_value = ir.Tensor(values, name=scale.name)
    feeds = {name: given.numpy() for name, given in zoo.feeds(name, SAMPLES).items()}
    return graph, Samples(feeds, None, range(SAMPLES))


def smoothed(graph: ir.Model, samples: Samples, **wish: Any) -> Smoothed:
    parameters = Quantize.model_validate(wish)
    return smooth(graph, parameters, weight_rounding(parameters), samples, 1)


def quantized(graph: ir.Model, samples: Samples, **wish: Any) -> Outcome:
    parameters = Quantize.model_validate({"mode": "static", "force": True, **wish})
    context = Context(samples, seed=0, threads=1)
    return quantize(graph.clone(), parameters, context, lambda _: None)


def outputs(graph: ir.Model, feeds: Feeds, scratch: Path) -> NDArray[np.float32]:
    save(graph, scratch / "run.onnx")
    given = runtime.run(runtime.open_session(scratch / "run.onnx"), feeds)
    found: NDArray[np.float32] = next(iter(given.values()))
    return found


def ratio(graph: ir.Model, other: ir.Model, feeds: Feeds, scratch: Path) -> float:
    """Return the SQNR of ``other``, in dB; infinite where both are equal."""
    found = sqnr_db(outputs(graph, feeds, scratch), outputs(other, feeds, scratch))
    return np.inf if found is None else found


def count(graph: ir.Model, operator: str) -> int:
    return sum(node.op_type == operator for node in graph.graph)


@pytest.mark.parametrize("name", ["bert", "vit", "convnext", "mlp"])
def test_smoothing_alone_leaves_the_outputs_as_they_were(name: str, tmp_path: Path) -> None:
    graph, samples = network(name)
    found = smoothed(graph, samples)
    before, after = (outputs(g, samples.arrays, tmp_path) for g in (graph, found.model))
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()
    assert found.layers


def test_a_normalisation_takes_it_in_and_a_residual_gets_a_node(tmp_path: Path) -> None:
    """The residual of ``bert`` reads what is normalised, that of ``vit`` does not."""
    (pre, inputs), (post, tokens) = network("vit"), network("bert")
    folded, multiplied = smoothed(pre, inputs), smoothed(post, tokens)
    read = [n for n in pre.graph if n.name in folded.layers and _normalised(n)]
    assert read
    assert count(folded.model, "Mul") - count(pre, "Mul") <= len(folded.layers) - len(read)
    assert count(multiplied.model, "Mul") > count(post, "Mul")


def _normalised(node: ir.Node) -> bool:
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    return before is not None and before.op_type == "LayerNormalization"


def gated(tmp_path: Path) -> tuple[ir.Model, Samples]:
    """Return ``[N, 16] → gate · wide → Relu of a product → 5`` with channels far out."""
    generator = np.random.default_rng(0)
    inits = {
        name: generator.standard_normal(shape).astype(np.float32) / 4
        for name, shape in (("gate", (16, 32)), ("wide", (16, 32)), ("mixed", (24, 32)),
                            ("last", (24, 5)), ("shift", (24,)))
    }  # fmt: skip
    inits["wide"][:, 4] *= OUTLIER
    inits["mixed"][7] *= OUTLIER
    nodes = [
        helper.make_node("MatMul", ["x", "gate"], ["g"], "gate"),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("MatMul", ["x", "wide"], ["w"], "wide"),
        helper.make_node("Mul", ["s", "w"], ["p"]),
        helper.make_node("Gemm", ["p", "mixed", "shift"], ["m"], "mixed", transB=1),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("MatMul", ["r", "last"], ["y"], "last"),
    ]
    path = tmp_path / "gated.onnx"
    weights = [tensor(name, array) for name, array in inits.items()]
    interface = [value("x", "N", 16)], [value("y", "N", 5)]
    onnx.save(model(nodes, *interface, weights, opset=18), path)
    graph = named(path)
    x = generator.standard_normal((64, 16)).astype(np.float32)
    return graph, Samples({"x": x}, None, range(64))


def test_matrices_take_it_in_through_a_gate_and_a_relu(tmp_path: Path) -> None:
    graph, samples = gated(tmp_path)
    found = smoothed(graph, samples)
    assert set(found.layers) >= {"mixed", "last"}
    assert [node.op_type for node in found.model.graph] == [n.op_type for n in graph.graph]
    before, after = (outputs(g, samples.arrays, tmp_path) for g in (graph, found.model))
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_with_outliers_integers_are_nearer_and_the_report_says_so(
    mode: str, tmp_path: Path
) -> None:
    graph, samples = network("vit")
    ratios = {}
    for wish in (None, False):
        outcome = quantized(graph, samples, mode=mode, smooth=wish, **PRODUCTS)
        ratios[wish] = ratio(graph, outcome.model, samples.arrays, tmp_path)
        assert any("smoothed" in each.change for each in outcome.layers) == (wish is None)
    assert ratios[None] > ratios[False] + 3


@pytest.mark.parametrize("name", ["bert", "residual"])
def test_what_is_chosen_is_about_as_near_as_the_nearest(name: str, tmp_path: Path) -> None:
    graph, samples = network(name, outliers=False)

    def reached(**wish: Any) -> float:
        found = quantized(graph, samples, **wish).model
        return ratio(graph, found, samples.arrays, tmp_path)

    fixed = [
        reached(ranges=rule, smooth=False, equalize=False)
        for rule in ("percentile", "minmax", "mse")
    ]
    assert reached() >= max(fixed) - 0.6


def test_a_wish_is_kept_and_what_was_chosen_is_said(tmp_path: Path) -> None:
    graph, samples = network("bert")
    outcome = quantized(graph, samples, ranges="mse", smooth=False)
    assert all("ranges mse" in each.change for each in outcome.layers)
    assert not any("smoothed" in each.change for each in outcome.layers)
    assert any("smoothed" in each.change for each in quantized(graph, samples, smooth=True).layers)
    assert Quantize(mode="dynamic", smooth=True).needs.data == "inputs"
    with pytest.raises(ValueError, match="leave out 'smooth'"):
        Quantize(mode="float16", smooth=True)


@pytest.mark.parametrize("rows", [1, 3, 20, 400])
def test_no_sample_is_both_calibrated_and_judged_on(rows: int) -> None:
    samples = Samples({}, None, range(100, 100 + rows))
    seen, judged = split_samples(samples, Quantize(), seed=0)
    assert 0 < len(seen) <= 128
    assert len(judged) > 0
    assert set(seen.indices).isdisjoint(judged.indices) == (rows > 1)
    wishes = {"ranges": "mse", "smooth": False, "equalize": False, "correct_bias": False}
    wishes |= {"learn_rounding": False}
    for left_open in (*wishes, None):
        wish = Quantize.model_validate({**wishes, **({left_open: None} if left_open else {})})
        seen, _ = split_samples(samples, wish, seed=0)
        kept = max(rows // 4, min(16, rows // 2)) if left_open else 0
        assert len(seen) == min(rows - kept, 128)
    trained = Quantize(mode="qat", ranges="mse", smooth=False, equalize=False)
    assert len(split_samples(samples, trained, seed=0)[0]) == min(rows, 128)


def test_calibration_takes_fewer_samples_where_each_takes_long(tmp_path: Path) -> None:
    """A pass over 128 samples of 12 billion multiply-accumulates each would take minutes."""
    side, path = 2304, tmp_path / "model.onnx"
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [value(name, "N", side, side) for name in ("x", "y")]
    weight = tensor("w", np.zeros((side, side), np.float32))
    onnx.save(model([node], ends[:1], ends[1:], [weight]), path)
    x = np.broadcast_to(np.float32(0), (200, side, side))
    context = Context(Samples({"x": x}, None, range(200)), seed=0, threads=1)
    assert len(calibrating(load(path), Quantize(), context)) == 32
    assert len(calibrating(load(path), Quantize(calibration_samples=20), context)) == 20

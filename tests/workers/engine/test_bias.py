"""The mean error of a quantized layer goes into its bias, and the report says what that brought."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import named, store_graph
from tests.workers.intake.models import tensor, value
from workers.compression.graph import runtime
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.methods.quantize.bias import mean_errors
from workers.compression.methods.quantize.integers import Floats, dequantize, range_grid
from workers.compression.methods.quantize.integers import quantize as quantize_array
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.pairs import site_of, stored_grid
from workers.compression.samples.context import Context, Samples

X = np.abs(np.random.default_rng(2).standard_normal((96, 8, 6, 6))).astype(np.float32)
"""Positive, so that rounded weights change the mean of what they multiply."""


def net(path: Path) -> None:
    """Store two convolutions with a Relu between."""
    rng = np.random.default_rng(1)
    shapes = {"w1": (16, 8, 3, 3), "w2": (6, 16, 3, 3)}
    arrays = {name: rng.standard_normal(shape) / 8 for name, shape in shapes.items()}
    arrays |= {"b1": rng.standard_normal(16), "b2": rng.standard_normal(6)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b2"], ["y"], "second"),
    ]
    inits = [tensor(name, array.astype(np.float32)) for name, array in arrays.items()]
    store_graph(path, nodes, [value("x", "N", 8, 6, 6)], [value("y", "N", 6, 2, 2)], inits)


def run(
    path: Path,
    *,
    correct_bias: bool | None,
    equalize: bool | None = False,
    weights: str = "int4",
) -> Outcome:
    """Quantize the net by force."""
    context = Context(Samples({"x": X}, None, range(64)), seed=0, threads=1)
    parameters = Quantize.model_validate(
        {"mode": "static", "weights": weights, "force": True, "smooth": False,
         "ranges": "minmax", "equalize": equalize, "correct_bias": correct_bias,
         "learn_rounding": False}
    )  # fmt: skip
    graph = named(path)
    return quantize(graph, parameters, context, lambda _: None)


def errors(path: Path, graph: ir.Model) -> Floats:
    """Return the errors of the outputs on samples that no step has seen, ``[32, 6, 2, 2]``."""
    feeds = {"x": X[64:]}
    expected: Floats = runtime.run(runtime.open_session(path), feeds)["y"]
    return runtime.run(runtime.session_of(graph), feeds)["y"] - expected


def mean_error(path: Path, graph: ir.Model) -> float:
    """Return the largest error of a channel's mean."""
    return float(np.abs(errors(path, graph).mean((0, 2, 3))).max())


def square_error(path: Path, graph: ir.Model) -> float:
    """Return the mean square of the errors."""
    return float(np.square(errors(path, graph)).mean())


def test_means_are_right_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    net(path)
    plain = run(path, correct_bias=False)
    corrected = run(path, correct_bias=True)
    assert mean_error(path, corrected.model) < 0.4 * mean_error(path, plain.model)
    assert plain.notes == []
    assert corrected.notes == ["Biases corrected: 2."]


@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_by_itself_it_is_done_where_outputs_come_nearer(tmp_path: Path, weights: str) -> None:
    path = tmp_path / "model.onnx"
    net(path)
    free = run(path, correct_bias=None, weights=weights)
    forced = run(path, correct_bias=bool(free.notes), weights=weights)
    assert mean_error(path, free.model) == pytest.approx(mean_error(path, forced.model), rel=0.5)
    if weights == "int4":
        assert "the outputs' signal-to-noise ratio went from" in free.notes[0]


def test_equalizing_is_chosen_by_outputs_with_corrected_biases(tmp_path: Path) -> None:
    """Here it brings the outputs nearer with the correction, and farther away without."""
    path = tmp_path / "model.onnx"
    net(path)
    assert run(path, correct_bias=False, equalize=None).notes == []
    chosen = run(path, correct_bias=True, equalize=None)
    assert "equalized" in chosen.notes[0]
    plain = run(path, correct_bias=True, equalize=False)
    assert square_error(path, chosen.model) < square_error(path, plain.model)


def test_other_modes_say_that_they_correct_nothing() -> None:
    with pytest.raises(ValueError, match="corrects no biases"):
        Quantize(mode="dynamic", correct_bias=True)


def test_weights_are_rounded_as_they_are_stored(tmp_path: Path) -> None:
    """A large bias has a coarse grid of weights: in units of a finer one it does not fit int32."""
    rng, path = np.random.default_rng(4), tmp_path / "model.onnx"
    weights = rng.random((256, 4), np.float32) / 16
    bias = np.array([3e6, 1, 0, -2e6], np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "only")
    arrays = [tensor("w", weights), tensor("b", bias)]
    store_graph(path, [node], [value("x", "N", 256)], [value("y", "N", 4)], arrays)
    model, parameters = named(path), Quantize(mode="static")
    x = rng.random((32, 256), np.float32)
    grids = {"x": range_grid(0.0, float(x.max()), "uint8", symmetric=False)}
    sites = [site_of(layer, parameters) for layer in select(model, parameters)[0]]
    samples = Samples({"x": x}, None, range(32))
    errors = mean_errors(model, sites, grids, parameters, {}, samples, 1)["only"]
    stored = stored_grid(sites[0], parameters, grids)
    assert np.all(stored.scale[[0, 3]] > 10 * stored.scale[[1, 2]])
    rounded = dequantize(quantize_array(weights, stored), stored)
    x_rounded = dequantize(quantize_array(x, grids["x"]), grids["x"])
    expected = (x_rounded @ rounded - x @ weights).mean(0)
    assert errors == pytest.approx(expected, abs=0.3)  # sums of millions are so exact in float32
    assert np.abs(expected[[0, 3]]).min() > 1

"""Blocks of few bits: near the weight, smaller in the file, and what onnxruntime multiplies by."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.conftest import Run, report_of
from tests.workers.engine.stored import named, store_graph
from tests.workers.intake.models import tensor, value
from workers.compression.graph import runtime
from workers.compression.graph.forms import stored_bytes
from workers.compression.methods.quantize import blocks
from workers.compression.methods.quantize.stored import Storing, grid_of

RNG = np.random.default_rng(3)


def _error(weight: NDArray[np.float64], found: blocks.Blocks, p: float = 2) -> float:
    return float((np.abs(weight - found.real()) ** p).sum())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("columns", [32, 45, 96])
def test_each_weight_is_within_half_a_step(bits: int, columns: int, *, symmetric: bool) -> None:
    weight = RNG.standard_normal((6, columns))
    found = blocks.round_to_nearest(weight, bits, 32, symmetric=symmetric)
    steps = np.repeat(found.scales, 32, axis=1)[:, :columns]
    assert (np.abs(weight - found.real()) <= steps * (0.51 if not symmetric else 1.01)).all()


def test_hqq_bears_outliers_better_by_its_own_measure() -> None:
    weight = RNG.standard_normal((64, 256)) ** 3
    plain = blocks.round_to_nearest(weight, 4, 64, symmetric=False)
    assert _error(weight, blocks.half_quadratic(weight, 4, 64), 0.7) < _error(weight, plain, 0.7)


def test_gptq_gives_nearer_outputs_on_the_data_that_it_saw() -> None:
    """On correlated inputs, errors that cancel are much less than errors that are small."""
    weight = RNG.standard_normal((48, 96))
    inputs = RNG.standard_normal((2000, 12)) @ RNG.standard_normal((12, 96))
    inputs += 0.1 * RNG.standard_normal(inputs.shape)
    plain = blocks.round_to_nearest(weight, 4, 32, symmetric=False)
    found = blocks.gptq(weight, inputs.T @ inputs, 4, 32, symmetric=False)
    lost = [((inputs @ (weight - each.real()).T) ** 2).sum() for each in (plain, found)]
    assert lost[1] < 0.5 * lost[0]


def test_packing_puts_the_first_of_two_in_the_lower_half() -> None:
    integers = np.array([[1, 2, 3, 4, 5]], np.uint8)
    np.testing.assert_array_equal(blocks.packed(integers, 4, 4), [[[0x21, 0x43], [0x05, 0x00]]])
    np.testing.assert_array_equal(blocks.packed_zeros(integers, 4), [[0x21, 0x43, 0x05]])


@pytest.mark.parametrize("net", ["mlp", "vit"])
@pytest.mark.parametrize("weights", ["int4", "int8"])
@pytest.mark.parametrize("algorithm", ["rtn", "hqq", "gptq"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_products_keep_their_quality_in_a_smaller_file(
    exported: dict[str, Path], digits_npz: Path, job: Run,
    net: str, weights: str, algorithm: str, *, symmetric: bool,
) -> None:  # fmt: skip
    step = {"method": "quantize", "mode": "weight_only", "weights": weights,
            "algorithm": algorithm, "symmetric": symmetric}  # fmt: skip
    report = report_of(job(exported[net], step, data=digits_npz))
    before, after = report.baseline, report.compressed
    assert before.quality is not None
    assert after.quality is not None
    assert after.quality.value > before.quality.value - (0.03 if weights == "int4" else 0.006)
    assert (after.parameters, after.macs) == (before.parameters, before.macs)
    saved = 4 if weights == "int4" else 2.3
    parts = report.step_reports[0].layers
    assert sum(layer.bytes_before for layer in parts) > saved * sum(x.bytes_after for x in parts)
    assert after.size_bytes < before.size_bytes / (1.6 if net == "vit" else 2)


@pytest.mark.parametrize("net", ["cnn", "vit"])
@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_weights_of_all_operators_are_stored_in_few_bits_and_run_as_floats(
    exported: dict[str, Path], digits_npz: Path, job: Run, net: str, weights: str
) -> None:
    step = {"method": "quantize", "mode": "weight_only", "unpack": "load", "weights": weights}
    report = report_of(job(exported[net], step, data=digits_npz))
    before, after = report.baseline, report.compressed
    assert before.quality is not None
    assert after.quality is not None
    assert after.quality.value > before.quality.value - (0.1 if weights == "int4" else 0.006)
    assert (after.parameters, after.macs) == (before.parameters, before.macs)
    parts = report.step_reports[0].layers
    saved = 6 if weights == "int4" else 3.5
    assert sum(layer.bytes_before for layer in parts) > saved * sum(x.bytes_after for x in parts)
    gone = sum(layer.bytes_before - layer.bytes_after for layer in parts)
    assert after.size_bytes < before.size_bytes - gone + 1200 * len(parts)


@pytest.mark.parametrize("axis", [0, 1])
def test_steps_lie_along_the_axis_whose_channels_differ(axis: int) -> None:
    shape = (1, 80) if axis else (80, 1)
    array = (RNG.standard_normal((80, 80)) * np.logspace(-3, 3, 80).reshape(shape)).astype("f4")
    grid = grid_of(array, "int8")
    near, steps = grid.nearest(array), np.abs(array).max(axis=1 - axis, keepdims=True) / 127
    assert grid.step.shape == steps.shape
    assert (np.abs(near - array) <= 0.501 * steps).all()
    assert stored_bytes(near) == array.size + 4 * 80


def test_zeros_stay_zero_and_are_stored_by_their_distance(
    exported: dict[str, Path], digits_npz: Path, job: Run
) -> None:
    prune = {"method": "prune", "granularity": "unstructured", "sparsity": 0.8, "scope": "layer"}
    store = {"method": "quantize", "mode": "weight_only", "unpack": "load"}
    report = report_of(job(exported["vit"], prune, store, data=digits_npz))
    first, second = report.step_reports
    before, zeros, both = first.before, second.before, second.after
    assert zeros.size_bytes < before.size_bytes / 2.5
    assert both.size_bytes < zeros.size_bytes / 1.6
    assert both.nonzero_parameters <= zeros.nonzero_parameters < 0.35 * before.parameters


@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_four_bits_are_a_codebook_unless_a_grid_takes_fewer_bytes(
    tmp_path: Path, zeros: float
) -> None:
    """Sixteen values that lie where weights do err less than a grid; a grid packs zeros."""
    weights = (RNG.standard_normal((96, 64)) * (RNG.random((96, 64)) >= zeros)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    path = tmp_path / "model.onnx"
    store_graph(path, nodes, [value("x", "N", 96)], [value("y", "N", 64)], [tensor("w", weights)])
    step = Quantize(mode="weight_only", unpack="load", weights="int4")
    written = Storing(step).write(named(path), {})
    (change,) = written.layers
    assert ("shared values" in change.change) == (not zeros)
    on_grid = grid_of(weights, "int4", 1).nearest(weights)
    lost = np.square(on_grid - weights).mean() / np.square(weights).mean()
    assert change.sqnr_db is not None
    assert change.sqnr_db >= -10 * np.log10(lost) + (0 if zeros else 1) - 0.01
    eye = np.eye(96, dtype=np.float32)
    with runtime.in_file(written.model) as graph:
        read = runtime.run(runtime.open_session(graph, optimize=True), {"x": eye})["y"]
    assert np.square(read - weights).mean() <= 1.001 * np.square(on_grid - weights).mean()

"""Each way from observed values to a range does what its name says."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from app.domain.steps import Quantize, RangeRule
from tests.workers.engine.stored import named
from tests.workers.intake.models import model, value
from workers.compression.looking.calibrate import observe
from workers.compression.looking.histograms import Histogram, count
from workers.compression.methods.quantize import ranges
from workers.compression.methods.quantize.integers import dequantize, quantize, range_grid
from workers.compression.samples.context import Samples


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, count(values, low, high, values.size))


@pytest.fixture
def heavy() -> np.ndarray:
    """A bell curve with one value far outside."""
    return np.append(np.random.default_rng(0).standard_normal(50_000), 100.0).astype(np.float32)


def test_minmax_covers_the_extremes(heavy: np.ndarray) -> None:
    assert ranges.minmax(histogram(heavy)) == (heavy.min(), heavy.max())


@pytest.mark.parametrize("share", [0.9, 0.99, 0.999])
def test_percentile_covers_the_share_of_magnitudes(heavy: np.ndarray, share: float) -> None:
    bell = heavy[:-1]
    low, high = ranges.percentile(histogram(bell), share)
    covered = np.mean((bell >= low) & (bell <= high))
    assert covered == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_an_outlier_does_not_stretch_the_range(heavy: np.ndarray, name: RangeRule) -> None:
    find = ranges.finder(Quantize(), name)
    low, high = find(histogram(heavy))
    assert -6 <= low <= -2
    assert 2 <= high < 100


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_zeros_outliers_and_small_negative_values_are_no_reason_to_clip_hard(
    name: RangeRule,
) -> None:
    """Half of what a Relu gives is zero, and what a Gelu gives is nearly all positive."""
    bell = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    find = ranges.finder(Quantize(), name)
    relu = np.maximum(bell, 0)
    gelu = bell / (1 + np.exp(-1.702 * bell))
    for values in (relu, np.append(relu, np.float32(12)), gelu):
        grid = range_grid(*find(histogram(values)), "uint8", symmetric=False)
        noise = values - dequantize(quantize(values, grid), grid)
        assert np.sum(values**2) / np.sum(noise**2) > 10**2.5


def test_mse_is_no_worse_than_minmax(heavy: np.ndarray) -> None:
    def error(low: float, high: float) -> float:
        grid = range_grid(low, high, "uint8", symmetric=False)
        return float(np.mean((heavy - dequantize(quantize(heavy, grid), grid)) ** 2))

    found = ranges.mean_squared_error(histogram(heavy), dtype="uint8", symmetric=False)
    assert error(*found) < error(float(heavy.min()), float(heavy.max()))


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=50),
    st.sampled_from(["minmax", "percentile", "mse", "entropy"]),
)
def test_a_range_never_leaves_what_was_seen(values: list[float], name: RangeRule) -> None:
    seen = histogram(np.array(values, np.float32))
    low, high = ranges.finder(Quantize(), name)(seen)
    assert seen.low - 1e-5 <= low <= high + 1e-5
    assert high <= seen.high + 1e-5


def test_what_is_asked_for_is_not_measured_and_16_bits_clip_nothing() -> None:
    assert Quantize(ranges="entropy").range_rules == ("entropy",)
    assert Quantize(ranges="entropy", activations="int16").range_rules == ("minmax",)
    assert len(Quantize().range_rules) > 1


def test_few_levels_are_not_spent_on_rare_values(heavy: np.ndarray) -> None:
    def reach(activations: str) -> float:
        wish = Quantize.model_validate({"activations": activations})
        return ranges.finder(wish, "mse")(histogram(heavy))[1]

    assert reach("uint4") < reach("uint8")


def test_a_few_values_are_covered_whole_by_entropy() -> None:
    few = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    find = ranges.finder(Quantize(), "entropy")
    assert find(histogram(few)) == (few.min(), few.max())


@pytest.mark.parametrize("is_over", [False, True])
def test_a_few_samples_are_observed_where_the_time_is_over(tmp_path: Path, is_over: bool) -> None:
    """The last of forty samples is the greatest by far."""
    path = tmp_path / "model.onnx"
    node = helper.make_node("Relu", ["x"], ["y"], "layer")
    onnx.save(model([node], [value("x", "N", 4)], [value("y", "N", 4)], []), path)
    x = np.random.default_rng(0).uniform(0, 1, (40, 4)).astype(np.float32)
    x[-1] = 1000
    samples = Samples({"x": x}, None, range(40))
    seen = observe(named(path), ["y"], samples, 1, lambda _: None, has_time=lambda: not is_over)
    assert (seen["y"].high < 1) == is_over
    assert seen["y"].counts.sum() == (16 if is_over else 40) * 4

"""Affine quantization keeps its arithmetic promises for any values."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from app.domain.steps import Quantize
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.quantize.integers import (
    BITS,
    dequantize,
    limits_of,
    quantize,
    quantize_bias,
    range_grid,
    rounded_down,
    weight_grid,
    weight_rounding,
)

FLOATS = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
WEIGHTS = arrays(np.float32, array_shapes(min_dims=1, max_dims=4, max_side=6), elements=FLOATS)
TYPES = st.sampled_from(["uint4", "uint5", "uint6", "uint7", "int8", "uint8", "int16"])


@given(WEIGHTS, st.sampled_from(["int8", "uint8"]), st.booleans(), st.data())
def test_a_weight_comes_back_within_half_a_scale(
    weights: NDArray[np.float32], dtype: str, per_channel: bool, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(0, weights.ndim - 1)) if per_channel else None
    grid = weight_grid(weights, dtype, axis)
    back = dequantize(quantize(weights, grid), grid)
    bound = grid.reshaped(weights.ndim)[0] * 0.5001
    assert np.all(np.abs(weights - back) <= bound)


@given(FLOATS, FLOATS, TYPES, st.booleans(), st.data())
def test_a_value_in_the_range_comes_back_within_a_scale_and_zero_exactly(
    one: float, other: float, dtype: str, symmetric: bool, data: st.DataObject
) -> None:
    low, high = min(one, other), max(one, other)
    grid = range_grid(low, high, dtype, symmetric=symmetric)
    value = np.array(data.draw(st.floats(low, high, width=32)), np.float32)
    assert abs(float(dequantize(quantize(value, grid), grid)) - value) <= grid.scale * 1.001
    assert dequantize(quantize(np.zeros((), np.float32), grid), grid) == 0


@given(FLOATS, FLOATS, TYPES)
def test_symmetric_ranges_put_zero_in_the_middle(one: float, other: float, dtype: str) -> None:
    grid = range_grid(min(one, other), max(one, other), dtype, symmetric=True)
    least, most = limits_of(dtype)
    assert int(grid.zero_point) == (least + most + 1) // 2


@given(FLOATS, FLOATS, st.integers(4, 8), st.booleans())
def test_a_grid_has_as_many_values_as_its_bits_can_tell_apart(
    one: float, other: float, bits: int, symmetric: bool
) -> None:
    grid = range_grid(min(one, other), max(one, other), f"uint{bits}", symmetric=symmetric)
    assert grid.zero_point.dtype == np.uint8
    low, high = grid.bounds
    values = np.linspace(2 * low, 2 * high, 2_000, dtype=np.float32)
    assert len(np.unique(quantize(values, grid))) == 2**bits


@given(FLOATS, FLOATS, TYPES, st.booleans())
def test_a_grid_reaches_the_ends_of_its_range_and_hardly_further(
    one: float, other: float, dtype: str, symmetric: bool
) -> None:
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    if symmetric:
        low, high = min(low, -high), max(high, -low)
    grid = range_grid(low, high, dtype, symmetric=symmetric)
    if high > low:
        step = 1.01 * float(grid.scale)
        assert grid.bounds == pytest.approx((low, high), abs=2 * step if symmetric else step)
        assert grid.scale * (limits_of(dtype)[1] - limits_of(dtype)[0] + 1) >= high - low


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_largest_weight_of_each_scale_is_the_top_level(dtype: str, axis: int | None) -> None:
    weights = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    grid = weight_grid(weights, dtype, axis)
    middle, top = (0, 127) if dtype == "int8" else (128, 127)
    levels = np.abs(quantize(weights, grid).astype(int) - middle)
    largest = levels.max(None if axis is None else tuple(a for a in range(3) if a != axis))
    assert np.all(largest == top)
    assert grid.scale.shape == (() if axis is None else (weights.shape[axis],))
    assert np.all(grid.zero_point == middle)


@pytest.mark.parametrize("bits", range(2, 6))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_with_few_bits_each_scale_errs_least(bits: int, axis: int | None) -> None:
    """Scales are compared with many others, channel by channel."""
    generator = np.random.default_rng(bits)
    weights = generator.standard_normal((4, 3, 50)).astype(np.float32)
    if axis == 0:
        weights *= np.array([1, 9, 0.1, 3], np.float32).reshape(4, 1, 1)
    grid = weight_grid(weights, f"int{bits}", axis)
    top = 2 ** (bits - 1) - 1
    assert grid.limits == (-top, top)
    assert grid.zero_point.dtype == np.int8
    errors = np.square(weights - dequantize(quantize(weights, grid), grid))
    channels = [weights] if axis is None else np.moveaxis(weights, axis, 0)
    errors_of_channels = [errors] if axis is None else np.moveaxis(errors, axis, 0)
    for channel, found in zip(channels, errors_of_channels, strict=True):
        assert found.sum() <= 1.12 * least_error(channel, top, np.linspace(0.2, 1.2, 300))


def least_error(weights: NDArray[np.float32], top: int, shares: NDArray[np.float64]) -> float:
    """Return the least squared error of weights if shares of their range are covered."""
    scales = shares * np.abs(weights).max() / top
    return min(
        float(np.square(weights - np.clip(np.rint(weights / scale), -top, top) * scale).sum())
        for scale in scales
    )


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("freedom", [2, 3, 5])
def test_a_few_large_weights_are_clipped_for_the_sake_of_all_others(
    bits: int, freedom: int
) -> None:
    """Channels of Student's distribution, which has heavy tails."""
    weights = np.random.default_rng(bits).standard_t(freedom, (4, 2000)).astype(np.float32)
    grid = weight_grid(weights, f"int{bits}", 0)
    errors = np.square(weights - dequantize(quantize(weights, grid), grid)).sum(1)
    for channel, found in zip(weights, errors, strict=True):
        assert found <= 1.02 * least_error(channel, 2 ** (bits - 1) - 1, np.geomspace(0.02, 1, 90))


def test_where_few_levels_fit_nothing_is_clipped() -> None:
    weights = np.array([-3.0, -1, 0, 1, 2, 3], np.float32)
    grid = weight_grid(weights, "int3", None)
    assert dequantize(quantize(weights, grid), grid).tolist() == pytest.approx(weights.tolist())


@given(st.floats(1e-30, 1e30))
def test_a_scale_is_rounded_to_the_nearest_that_is_not_greater(scale: float) -> None:
    found = rounded_down(scale)
    assert found <= scale < np.nextafter(found, np.float32(np.inf))


def test_scales_have_a_lower_bound() -> None:
    weights = np.array([[1.27, 0.5], [12.7, 1]], np.float32)
    found = weight_grid(weights, "int8", 0, smallest=np.array([0.05, 0.05], np.float32))
    assert found.scale == pytest.approx([0.05, 0.1])


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_matrix_is_rounded_as_its_rows_or_as_a_whole(per_channel: bool) -> None:
    matrix = np.array([[127.0, 1.4, -3.6], [1.27, 0.0146, 0.02]])
    rounded = weight_rounding(Quantize(per_channel=per_channel))(matrix)
    second = [1.27, 0.01, 0.02] if per_channel else [1, 0, 0]
    assert rounded == pytest.approx(np.array([[127, 1, -4], second]))
    assert rounded.dtype == np.float64


def test_the_types_that_may_be_asked_for_are_those_that_there_are() -> None:
    fields = Quantize.model_fields
    asked = [get_args(fields[name].annotation) for name in ("weights", "activations")]
    assert {*asked[0], *asked[1]} - {"none"} == set(BITS)
    assert all(dtype.lstrip("uint") == str(bits) for dtype, bits in BITS.items())


def test_no_scale_is_zero() -> None:
    assert np.all(weight_grid(np.zeros((3, 2), np.float32), "int8", 0).scale == 1)


def test_a_bias_is_counted_in_the_units_of_the_products() -> None:
    bias = np.array([1.0, -2.0, 1e30], np.float32)
    rounded = quantize_bias(bias, np.array([0.5, 0.25, 1.0], np.float32))
    assert rounded.tolist() == [2, -8, 2**31 - 1]


def test_sqnr_is_none_without_an_error_and_20_db_at_a_tenth() -> None:
    signal = np.ones(8, np.float32)
    assert sqnr_db(signal, signal) is None
    assert sqnr_db(signal, signal * np.float32(0.9)) == 20.0

"""Affine quantization keeps its arithmetic promises for any values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.quantize.integers import (
    dequantize,
    limits_of,
    quantize,
    quantize_bias,
    range_grid,
    weight_grid,
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


@given(WEIGHTS)
def test_no_scale_is_zero(weights: NDArray[np.float32]) -> None:
    assert np.all(weight_grid(weights * 0, "int8", 0).scale > 0)


def test_a_bias_is_counted_in_the_units_of_the_products() -> None:
    bias = np.array([1.0, -2.0, 1e30], np.float32)
    rounded = quantize_bias(bias, np.array([0.5, 0.25, 1.0], np.float32))
    assert rounded.tolist() == [2, -8, 2**31 - 1]


def test_sqnr_is_none_without_an_error_and_20_db_at_a_tenth() -> None:
    signal = np.ones(8, np.float32)
    assert sqnr_db(signal, signal) is None
    assert sqnr_db(signal, signal * np.float32(0.9)) == 20.0

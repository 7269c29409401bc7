"""What the operators of a graph say of the numbers that it can compute."""

import math

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from workers.compression.graph.value_range import value_range

ANY = (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("makes_y", "low", "high"),
    [
        ("y = Gemm (x, w)", *ANY),
        ("s = Gemm (x, w)  y = Sigmoid (s)", 0, 1),
        ("s = Sigmoid (x)  y = Sub (one, s)", 0, 1),
        ("s = Tanh (x)  h = Mul (s, half)  y = Add (h, half)", 0, 1),
        ("e = Exp (x)  d = Add (e, one)  y = Div (e, d)", 0, math.inf),
        ("e = Exp (x)  d = Add (e, one)  y = Reciprocal (d)", 0, 1),
        ("y = Reciprocal (x)", *ANY),
        ("r = Relu (x)  y = Neg (r)", -math.inf, 0),
        ("y = Clip (x, half, one)", 0.5, 1),
        ("y = Clip (x, , one)", -math.inf, 1),
        ("s = Sigmoid (x)  t = Tanh (x)  y = Concat <axis = 1> (s, t)", -1, 1),
        ("s = Sigmoid (x)  t = Tanh (x)  y = Max (s, t)", 0, 1),
        ("s = Sigmoid (x)  t = Softmax (x)  y = Mul (s, t)", 0, 1),
        ("z = Sub (half, half)  y = Mul (x, z)", 0, 0),
        ("d = Sub (endless, endless)  y = Mul (x, d)", *ANY),
        ("p = Sigmoid (x)  v, i = TopK (p, few)  y = Cast <to = 1> (i)", *ANY),
        ("y = Cast <to = 1> (half)", 0.5, 0.5),
        ("c = Greater (x, half)  s = Sigmoid (x)  y = Where (c, s, one)", 0, 1),
        (
            """y = ai.onnx.ml.LinearRegressor
            <coefficients = [1.0, 1.0], post_transform = "LOGISTIC"> (x)""",
            0,
            1,
        ),
    ],
)
def test_numbers_are_bounded_by_the_operators_that_make_them(
    makes_y: str, low: float, high: float
) -> None:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 3]>
        g (float[n, 2] x) => (float[n, k] y)
        <float half = {{0.5}}, float one = {{1}}, int64[1] few = {{1}},
        float[2, 2] w = {{1, 2, 3, 4}}> {{ {makes_y} }}"""
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array(np.inf, "f4"), "endless"))
    [output] = ir.serde.deserialize_model(proto).graph.outputs
    found = value_range(output)
    assert (found.low, found.high) == (low, high)

"""What exporters spell out is recognised, in each of their spellings."""

import math
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, parser

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import tensor

ROOT, TANH = math.sqrt(2), math.sqrt(2 / math.pi)

LAYER_NORMALIZATION = """
    m = ReduceMean {keepdims}(x, axis)
    d = Sub(x, m)
    q = {square}
    v = ReduceMean {keepdims}(q, axis)
    e = Add(v, epsilon)
    r = Sqrt(e)
    n = {quotient}
    s = Mul({scale})
    y = Add(s, bias)
"""

GELU = {
    "x · rest · half": "d = Div(x, root) f = Erf(d) r = Add(f, one) m = Mul(x, r) y = Mul(m, half)",
    "x · (rest · half)": "d = Div(x, root) f = Erf(d) r = Add(one, f) m = Mul(r, half) "
    "y = Mul(x, m)",
    "half · x · rest": "h = Mul(half, x) d = Div(x, root) f = Erf(d) r = Add(f, one) y = Mul(h, r)",
    "tanh": "c = Pow(x, three) k = Mul(c, cube) a = Add(x, k) b = Mul(a, factor) t = Tanh(b) "
    "r = Add(t, one) h = Mul(x, half) y = Mul(h, r)",
}

HARDSWISH = "a = Add(x, three) c = Clip(a, zero, six) m = Mul(c, x) y = Div(m, six)"

SCALARS = {
    "epsilon": 1e-5, "two": 2, "root": ROOT, "one": 1, "half": 0.5, "three": 3, "zero": 0,
    "six": 6, "cube": 0.044715, "factor": TANH,
}  # fmt: skip


def read(body: str, opset: int = 18):  # type: ignore[no-untyped-def]  # noqa: ANN201 (a ModelProto)
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    proto = parser.parse_model(f"{header}g (float[N, 6] x) => (float[N, 6] y) {{ {body} }}")
    used = {name for node in proto.graph.node for name in node.input}
    vectors = {"weight": np.linspace(0.5, 1.5, 6), "bias": np.linspace(-1, 1, 6)}
    values = {n: np.float32(v) for n, v in SCALARS.items()} | {
        name: vector.astype(np.float32) for name, vector in vectors.items()
    }
    values["axis"] = np.array([-1])
    proto.graph.initializer.extend(tensor(n, v) for n, v in values.items() if n in used)
    return proto


@pytest.mark.parametrize("keepdims", ["", "<keepdims = 1>"])
@pytest.mark.parametrize("square", ["Mul(d, d)", "Pow(d, two)"])
@pytest.mark.parametrize("quotient", ["Div(d, r)", "Reciprocal(r) n = Mul(d, i)"])
@pytest.mark.parametrize("scale", ["n, weight", "weight, n"])
def test_layer_normalization_is_recognised(
    tmp_path: Path, keepdims: str, square: str, quotient: str, scale: str
) -> None:
    body = LAYER_NORMALIZATION.format(
        keepdims=keepdims, square=square, quotient=quotient, scale=scale
    ).replace("n = Reciprocal", "i = Reciprocal")
    assert operators(normal(read(body), tmp_path)) == {"LayerNormalization": 1}


def test_a_normalization_over_other_axes_stays(tmp_path: Path) -> None:
    body = LAYER_NORMALIZATION.format(
        keepdims="", square="Mul(d, d)", quotient="Div(d, r)", scale="n, weight"
    )
    proto = read(body)
    axis = next(each for each in proto.graph.initializer if each.name == "axis")
    axis.CopyFrom(tensor("axis", np.array([0])))
    assert operators(normal(proto, tmp_path))["ReduceMean"] == 2


@pytest.mark.parametrize("spelling", GELU)
def test_gelu_is_recognised(tmp_path: Path, spelling: str) -> None:
    graph = normal(read(GELU[spelling]), tmp_path)
    assert operators(graph) == {"Gelu": 1}
    assert graph.graph[0].attributes.get_string("approximate") == (
        "tanh" if spelling == "tanh" else "none"
    )


def test_hardswish_is_recognised(tmp_path: Path) -> None:
    assert operators(normal(read(HARDSWISH), tmp_path)) == {"HardSwish": 1}


def test_one_whose_inner_values_are_read_stays(tmp_path: Path) -> None:
    proto = read(GELU["x · rest · half"].replace("y = Mul(m, half)", "g = Mul(m, half)"))
    proto.graph.node.append(helper.make_node("Add", ["g", "f"], ["y"]))
    assert operators(normal(proto, tmp_path))["Erf"] == 1


def test_the_same_idiom_many_times_over_is_recognised_each_time(tmp_path: Path) -> None:
    proto = read(GELU["x · rest · half"])
    block, scalars = list(proto.graph.node), [each.name for each in proto.graph.initializer]
    del proto.graph.node[:]
    for index in range(20):
        for node in block:
            copy = proto.graph.node.add()
            copy.CopyFrom(node)
            names = {"x": f"y{index - 1}" if index else "x"}
            copy.input[:] = [names.get(n, n if n in scalars else f"{n}{index}") for n in node.input]
            copy.output[:] = [f"{name}{index}" for name in node.output]
    proto.graph.output[0].name = "y19"
    assert operators(normal(proto, tmp_path)) == {"Gelu": 20}

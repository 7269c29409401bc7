"""Scales and offsets of channels become part of the convolution before them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import model, tensor, value

RANDOM = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def convolved(after: list[onnx.NodeProto], *bias: str, **constants: Any) -> onnx.ModelProto:
    """Return a 3x3 convolution of 4 channels to 6, ``c``, and what comes behind it."""
    nodes = [helper.make_node("Conv", ["x", "w", *bias], ["c"], "conv"), *after]
    inits = {"w": weights(6, 4, 3, 3), "b": weights(6)} | constants
    return model(
        nodes,
        [value("x", "N", 4, 8, 8)],
        [value("y", "N", 6, 6, 6)],
        [tensor(name, array) for name, array in inits.items()],
    )


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (6, 1, 1), (1,), ()])
@pytest.mark.parametrize("bias", [(), ("b",)])
def test_a_constant_for_each_channel_is_folded(
    tmp_path: Path, operator: str, shape: tuple[int, ...], bias: tuple[str, ...]
) -> None:
    nodes = [helper.make_node(operator, ["c", "k"], ["y"])]
    proto = convolved(nodes, *bias, k=weights(*shape) + 2)
    assert operators(normal(proto, tmp_path)) == {"Conv": 1}


def test_a_scale_and_then_an_offset_are_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["k", "c"], ["m"]),
        helper.make_node("Add", ["o", "m"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    proto = convolved(nodes, k=weights(1, 6, 1, 1), o=weights(1, 6, 1, 1))
    assert operators(normal(proto, tmp_path)) == {"Conv": 1, "Relu": 1}


@pytest.mark.parametrize(
    ("inputs", "operator", "shape"),
    [("c k", "Add", (1, 1, 6, 6)), ("c k", "Mul", (6,)), ("k c", "Sub", (1, 6, 1, 1))],
)
def test_other_constants_stay(
    tmp_path: Path, inputs: str, operator: str, shape: tuple[int, ...]
) -> None:
    nodes = [helper.make_node(operator, inputs.split(), ["y"])]
    assert operators(normal(convolved(nodes, k=weights(*shape)), tmp_path))[operator] == 1


def test_a_convolution_that_others_read_stays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["c", "k"], ["m"]),
        helper.make_node("Add", ["m", "c"], ["y"]),
    ]
    proto = convolved(nodes, k=weights(1, 6, 1, 1))
    assert operators(normal(proto, tmp_path)) == {"Conv": 1, "Mul": 1, "Add": 1}

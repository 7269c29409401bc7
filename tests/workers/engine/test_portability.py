"""A report says where its figures hold, and which integers may saturate on other processors."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import named
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph.load import load
from workers.compression.measure.machine import machine, torch_device
from workers.compression.measure.portability import may_saturate, portability
from workers.compression.methods.quantize import quantize
from workers.compression.samples.context import Context, Samples

RNG = np.random.default_rng(0)


@given(st.lists(st.integers(-127, 127), min_size=2, max_size=9))
def test_a_pair_saturates_where_its_sum_of_products_exceeds_sixteen_bits(row: list[int]) -> None:
    pairs = zip(row[0::2], row[1::2], strict=False)
    exceeds = any(abs(255 * (a + b)) > np.iinfo(np.int16).max for a, b in pairs)
    assert may_saturate(np.array([row], np.int16)) == exceeds


def test_weights_of_seven_bits_never_saturate() -> None:
    assert not may_saturate(np.full((3, 8), 63, np.int16))
    assert may_saturate(np.full((3, 8), 127, np.int16))


@pytest.mark.parametrize(("weights", "some"), [("int8", True), ("int7", False)])
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_the_layers_that_may_saturate_are_named(
    tmp_path: Path, mode: str, weights: str, some: bool
) -> None:
    path = tmp_path / "model.onnx"
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "even"),
        helper.make_node("MatMul", ["m", "v"], ["y"], "uneven"),
    ]
    alternating = np.tile(np.array([[1.0], [-1.0]], np.float32), (12, 24))
    inits = [tensor("w", np.ones((24, 24), np.float32)), tensor("v", alternating)]
    onnx.save(model(nodes, [value("x", "N", 24)], [value("y", "N", 24)], inits), path)
    x = RNG.standard_normal((16, 24)).astype(np.float32)
    context = Context(Samples({"x": x}, None, range(16)), seed=0, threads=1)
    graph = named(path)
    parameters = Quantize(
        mode="static" if mode == "static" else "dynamic",
        weights="int8" if weights == "int8" else "int7",
        force=True,
        smooth=False,
        ranges="minmax",
    )
    written = quantize(graph, parameters, context, lambda _: None).model
    found = portability(written)
    assert found.integer_layers == 2
    assert len(found.may_saturate) == int(some)
    assert found.measured_on == machine(torch_device()).instruction_sets


def test_a_float_graph_has_no_integer_layers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "only")]
    weight = tensor("w", np.ones((4, 4), np.float32))
    onnx.save(model(nodes, [value("x", "N", 4)], [value("y", "N", 4)], [weight]), path)
    assert portability(load(path)).integer_layers == 0

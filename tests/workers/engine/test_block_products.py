"""Products read their weights from blocks of four bits, in standard operators."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import openvino as ov
import pytest
import torch
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import drawn, named, store_graph
from tests.workers.intake.models import tensor, value
from workers.compression.delivery.exported import program
from workers.compression.delivery.grids import Grids
from workers.compression.graph import runtime
from workers.compression.measure.ratio import Ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import auto, quantize
from workers.compression.methods.quantize.block_products import BlockProducts
from workers.compression.methods.quantize.selection import quantize_profitable
from workers.compression.samples.context import Context, Samples

RNG = np.random.default_rng(5)
BLOCKS = Quantize(mode="weight_only", weights="int4")


def stored(path: Path, inputs: int, width: int, outputs: int) -> ir.Model:
    """Store a net of a MatMul, a Gemm, and a Gemm of the same weight transposed."""
    shapes = {"w1": (inputs, width), "w2": (width, width), "b": (width,), "w3": (width, outputs)}
    weights = drawn(RNG, shapes)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b"], ["g"], "second", alpha=0.5, beta=2.0),
        helper.make_node("Gemm", ["g", "w2"], ["h"], "third", transB=1),
        helper.make_node("MatMul", ["h", "w3"], ["y"], "last"),
    ]
    store_graph(path, nodes, [value("x", "N", inputs)], [value("y", "N", outputs)], weights)
    return named(path)


def outputs_of(model: ir.Model, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with runtime.in_file(model) as path:
        return runtime.run(runtime.open_session(path, optimize=True), {"x": x})["y"]


def test_blocks_are_near_and_small_and_what_is_left_out_stays(tmp_path: Path) -> None:
    model = stored(tmp_path / "model.onnx", 64, 96, 80)
    x = RNG.standard_normal((6, 64)).astype(np.float32)
    blocks = BlockProducts(BLOCKS)
    written = blocks.write(model, {})
    assert [layer.node for layer in written.layers] == ["first", "second", "third", "last"]
    exact, near = outputs_of(model, x), outputs_of(written.model, x)
    assert np.square(near - exact).mean() < 0.05 * np.square(exact).mean()
    assert all(6 < each.bytes_before / each.bytes_after < 7 for each in written.layers)
    assert {node.domain for node in written.model.graph} == {""}
    some = blocks.write(model, {"second": "a reason", "third": "a reason"})
    assert {each.node: each.reason for each in some.skipped} == {
        "second": "a reason", "third": "a reason"
    }  # fmt: skip
    assert "w2" in some.model.graph.initializers
    assert blocks.write(model, dict.fromkeys(("first", "second", "third", "last"), "")).layers == []


def test_inputs_that_are_no_whole_blocks_stay(tmp_path: Path) -> None:
    written = BlockProducts(BLOCKS).write(stored(tmp_path / "model.onnx", 45, 96, 80), {})
    assert [layer.node for layer in written.layers] == ["second", "third", "last"]
    assert [skipped.node for skipped in written.skipped] == ["first"]


def test_products_of_branches_stay(tmp_path: Path) -> None:
    """onnxruntime looks for their blocks in the branch, and does not open the graph."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], [name], f"{name} product")],
            name, [], [value(name, "N", 96)],
        )
        for name in ("then", "else")
    }  # fmt: skip
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["taken"], to=9),
        helper.make_node("If", ["taken"], ["h"], "choice", **branches),
        helper.make_node("MatMul", ["h", "v"], ["y"], "last"),
    ]
    weights = [tensor("w", RNG.random((64, 96), np.float32))]
    weights.append(tensor("v", RNG.random((96, 64), np.float32)))
    path = tmp_path / "model.onnx"
    store_graph(path, nodes, [value("x", "N", 64)], [value("y", "N", 64)], weights)
    written = BlockProducts(BLOCKS).write(named(path), {})
    assert [layer.node for layer in written.layers] == ["last"]
    assert {skipped.node for skipped in written.skipped} == {"then product", "else product"}
    outputs_of(written.model, np.ones((2, 64), np.float32))


def test_other_runtimes_read_blocks_or_get_floats(tmp_path: Path) -> None:
    path = tmp_path / "blocks.onnx"
    x = RNG.standard_normal((6, 64)).astype(np.float32)
    written = BlockProducts(BLOCKS).write(stored(tmp_path / "model.onnx", 64, 96, 80), {}).model
    ir.save(written, path)
    found = [ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]]
    for grids in (Grids(), Grids(float_weights=True)):
        exported = program(path, {"x": x}, grids).module()
        found.append(exported(torch.from_numpy(x))[0].numpy())
    exact = outputs_of(written, x)
    for each in found:
        assert np.square(each - exact).mean() < 0.001 * np.square(exact).mean()


def test_blocks_are_a_candidate_where_they_may_be_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every form is said to be as fast as every other: times depend on the machine.

    Blocks have four bits: a choice of layers goes on where one that stores eight would end.
    """
    monkeypatch.setattr(auto, "speed_ratio", lambda *_, **__: Ratio(1.2, 1.1, 1.3))
    hopeless = dict[str | None, bool]()

    def choose(*given: Any, **named: Any) -> Outcome:
        hopeless[given[2].layer_form] = given[-1](1.15)
        return quantize_profitable(*given, **named)

    monkeypatch.setattr(auto, "quantize_profitable", choose)
    path = tmp_path / "model.onnx"
    model = stored(path, 256, 1024, 1024)
    x = RNG.standard_normal((40, 256)).astype(np.float32)
    samples = Samples({"x": x}, None, range(32))
    context = Context(
        samples, seed=0, threads=1, example=samples.first_run(), original=path, max_quality_drop=0.9
    )
    found = quantize(model, Quantize(prefer="size"), context, lambda _: None)
    titles = {each.title: each for each in found.choices}
    in_blocks = titles["products with weights in blocks of four bits, throughout"]
    assert in_blocks.size_bytes < 0.25 * path.stat().st_size
    assert "floats with weights in few bits" in titles
    small = tmp_path / "small.onnx"
    narrow = stored(small, 256, 256, 256)
    quantize(narrow, Quantize(), replace(context, original=small), lambda _: None)
    assert hopeless["blocks"] is False

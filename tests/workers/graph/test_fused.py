"""What onnxruntime's optimizer fused becomes the layers that it was, and computes the same."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from tests.workers.field.draw import FLOAT, Drawing, end
from tests.workers.graph.normal import normal, operators
from workers.compression.graph.chosen_rows import integer_ends
from workers.compression.graph.inference import infer
from workers.compression.graph.rewrites.fused import spell_out_fused

MS = {"domain": "com.microsoft"}


def unfused(draw: Drawing, x: list[int | str], y: list[int | str], tmp_path: Path) -> ir.Model:
    raw = draw.model([end("x", FLOAT, *x)], [end("y", FLOAT, *y)], com_microsoft=1)
    return normal(onnx.load_from_string(raw), tmp_path)


@pytest.mark.parametrize(
    ("activation", "numbers"),
    [("Relu", []), ("LeakyRelu", [0.2]), ("HardSigmoid", [0.3, 0.4]), ("", [])],
)
def test_a_convolution_is_parted_from_its_activation(
    activation: str, numbers: list[float], tmp_path: Path
) -> None:
    draw = Drawing(1)
    said: dict[str, Any] = {"activation": activation} if activation else {}
    said |= {"activation_params": numbers} if numbers else {}
    weights = draw.weight(8, 3, 3, 3), draw.weight(8)
    draw("FusedConv", "x", *weights, strides=[2, 2], pads=[1] * 4, gives=["y"], **said, **MS)
    graph = unfused(draw, ["n", 3, 8, 8], ["n", 8, 4, 4], tmp_path)
    assert operators(graph) == {"Conv": 1} | ({activation: 1} if activation else {})
    assert graph.graph[0].name == "FusedConv_0"


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_a_product_is_parted_from_its_activation(activation: str, tmp_path: Path) -> None:
    draw = Drawing(2)
    slope = {"activation_alpha": 0.3} if activation == "LeakyRelu" else {}
    weights = draw.weight(4, 16), draw.weight(4)
    draw(
        "FusedGemm", "x", *weights, transB=1, alpha=0.5, activation=activation, gives=["y"],
        **slope, **MS,
    )  # fmt: skip
    graph = unfused(draw, ["n", 16], ["n", 4], tmp_path)
    assert operators(graph) == {"Gemm": 1, activation: 1}


@pytest.mark.parametrize("turned", [0, 1])
def test_a_product_is_parted_from_what_turns_and_scales_it(turned: int, tmp_path: Path) -> None:
    draw = Drawing(3)
    weight = draw.weight(*((4, 16) if turned else (16, 4)))
    draw("FusedMatMul", "x", weight, alpha=0.5, transB=turned, gives=["y"], **MS)
    graph = unfused(draw, ["n", 3, 16], ["n", 3, 4], tmp_path)
    assert operators(graph) == {"MatMul": 1, "Mul": 1}


def test_a_sum_is_parted_from_its_normalisation_and_its_gelu(tmp_path: Path) -> None:
    draw = Drawing(4)
    scale, shift = draw.keep(np.ones(8, np.float32)), draw.weight(8)
    outputs = ["normal", "", "", "sum"]
    skip = ["x", "x", scale, shift, draw.weight(8)]
    draw("SkipLayerNormalization", *skip, gives=outputs, epsilon=1e-5, **MS)
    draw("BiasGelu", "normal", draw.weight(8), gives=["gelu"], **MS)
    draw("FastGelu", "sum", draw.weight(8), gives=["fast"], **MS)
    draw("Add", draw("Gelu", "fast", **MS), "gelu", gives=["y"])
    graph = unfused(draw, ["n", 8], ["n", 8], tmp_path)
    assert operators(graph) == {"Add": 5, "LayerNormalization": 1, "Gelu": 3}


@pytest.mark.parametrize("places", ["in order", "read"])
def test_embeddings_are_parted_from_their_normalisation(places: str, tmp_path: Path) -> None:
    """As onnxruntime's tools write BERT: words, places and kinds, and the length of each text."""
    draw = Drawing(12)
    tables = [draw.weight(rows, 16) for rows in (50, 12, 2)]
    read = ["places"] if places == "read" else []
    weights = draw.keep(np.ones(16, np.float32)), draw.weight(16)
    draw(
        "EmbedLayerNormalization", "words", "kinds", *tables, *weights, "mask", *read,
        gives=["normal", "lengths", "total"], epsilon=1e-5, **MS,
    )  # fmt: skip
    draw("Cast", "lengths", to=FLOAT, gives=["length"])
    draw("Mul", draw("Add", "normal", "total"), draw("ReduceMax", "length"), gives=["y"])
    inputs = [end(name, TensorProto.INT32, "n", "t") for name in ("words", "kinds", "mask", *read)]
    raw = draw.model(inputs, [end("y", FLOAT, "n", "t", 16)], com_microsoft=1)
    proto = onnx.load_from_string(raw)
    assert integer_ends(ir.serde.deserialize_model(proto)) | {"mask": 2} == {
        "words": 50, "kinds": 2, "mask": 2, **({"places": 12} if read else {})
    }  # fmt: skip
    counts = operators(normal(proto, tmp_path))
    assert counts["Gather"] == 2 + len(read)
    assert counts["LayerNormalization"] == 1
    assert "EmbedLayerNormalization" not in counts


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([], {}),
        (["n", "t"], {"scale": 0.3}),
        (["n", "t", "t"], {"mask_filter_value": -50.0}),
        (["n"], {}),
        ([], {"qkv_hidden_sizes": [16, 16, 48]}),
        (["summand"], {}),
    ],
    ids=str,
)
def test_attention_becomes_three_layers_and_two_products(
    mask: list[int | str], said: dict[str, Any], tmp_path: Path
) -> None:
    """As onnxruntime's tools write BERT."""
    draw = Drawing(13)
    width = sum(said.get("qkv_hidden_sizes", [16, 16, 16]))
    summand = draw("MatMul", "x", draw("Transpose", "x", perm=[0, 2, 1]))
    added = ["", "", draw("Unsqueeze", summand, draw.whole(1))]
    given = added if mask == ["summand"] else ["mask"] if mask else []
    weights = draw.weight(8, width), draw.weight(width)
    mixed = draw("Attention", "x", *weights, *given, num_heads=4, **said, **MS)
    draw("MatMul", mixed, draw.weight(width - 32, 4), gives=["y"])
    inputs = [end("x", FLOAT, "n", "t", 8)]
    inputs += [end("mask", TensorProto.INT32, *mask)] if given == ["mask"] else []
    raw = draw.model(inputs, [end("y", FLOAT, "n", "t", 4)], com_microsoft=1)
    graph = normal(onnx.load_from_string(raw), tmp_path)
    assert operators(graph)["MatMul"] == (7 if given == added else 6)
    assert operators(graph)["Attention"] == 0
    names = {str(node.name) for node in graph.graph if node.op_type == "MatMul"}
    assert len([n for n in names if n.endswith(("_queries", "_keys", "_values"))]) == 3


@pytest.mark.parametrize("said", [{"unidirectional": 1}, {"do_rotary": 1}], ids=str)
def test_attention_that_hides_or_turns_by_place_stays(said: dict[str, int]) -> None:
    draw = Drawing(14)
    draw("Attention", "x", draw.weight(8, 48), gives=["y"], num_heads=2, **said, **MS)
    raw = draw.model([end("x", FLOAT, 1, 4, 8)], [end("y", FLOAT, 1, 4, 16)], com_microsoft=1)
    model = ir.serde.deserialize_model(onnx.load_from_string(raw))
    assert spell_out_fused(model) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_parted_from_what_it_adds_and_bounds(bias: bool, tmp_path: Path) -> None:
    """As in a residual network, whose sums onnxruntime puts into its convolutions."""
    draw = Drawing(5)
    before = draw("Conv", "x", draw.weight(8, 3, 1, 1))
    inputs = [before, draw.weight(8, 8, 3, 3), draw.weight(8) if bias else "", before]
    bounds: dict[str, Any] = {"activation": "Clip", "activation_params": [0.0, 0.6]}
    draw("FusedConv", *inputs, pads=[1] * 4, gives=["y"], **bounds, **MS)
    graph = unfused(draw, ["n", 3, 8, 8], ["n", 8, 8, 8], tmp_path)
    assert operators(graph) == {"Conv": 2, "Add": 1, "Clip": 1}


def test_a_convolution_with_an_activation_that_is_not_known_stays(tmp_path: Path) -> None:
    draw = Drawing(11)
    draw("FusedConv", "x", draw.weight(8, 3, 3, 3), gives=["y"], activation="HardSwish", **MS)
    raw = draw.model([end("x", FLOAT, 1, 3, 8, 8)], [end("y", FLOAT, 1, 8, 6, 6)], com_microsoft=1)
    model = ir.serde.deserialize_model(onnx.load_from_string(raw))
    assert spell_out_fused(model) == 0


def test_a_product_in_a_branch_is_parted_too(tmp_path: Path) -> None:
    draw, then, other = Drawing(6), Drawing(7, "t_"), Drawing(8, "e_")
    one = then("FusedGemm", "x", then.weight(8, 8), activation="Relu", **MS)
    two = other("Neg", "x")
    branches = {
        "then_branch": then.body("then", [], [end(one, FLOAT, "n", 8)]),
        "else_branch": other.body("else", [], [end(two, FLOAT, "n", 8)]),
    }
    flag = draw("Cast", draw("ReduceMax", "x", keepdims=0), to=TensorProto.BOOL)
    draw("If", flag, gives=["y"], **branches)
    graph = unfused(draw, ["n", 8], ["n", 8], tmp_path)
    names = [node.op_type for node in graph.graph.all_nodes()]
    assert "FusedGemm" not in names
    assert "Gemm" in names


def test_types_that_only_a_schema_tells_are_known() -> None:
    """ONNX infers nothing for an Imputer; what follows it has a type all the same."""
    node = helper.make_node(
        "Imputer", ["x"], ["f"], domain="ai.onnx.ml", imputed_value_floats=[0.0]
    )
    last = helper.make_node("Relu", ["f"], ["y"])
    graph = helper.make_graph([node, last], "g", [end("x", FLOAT, "n", 4)], [end("y", FLOAT)])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    model = ir.serde.deserialize_model(helper.make_model(graph, opset_imports=imports))
    infer(model)
    assert model.graph[0].outputs[0].dtype == ir.DataType.FLOAT


@pytest.mark.parametrize("read", [False, True], ids=["nobody reads it", "an output"])
def test_a_normalisation_whose_mean_is_an_output_stays(read: bool) -> None:
    draw = Drawing(9)
    scale, shift = draw.keep(np.ones(8, np.float32)), draw.weight(8)
    draw("SkipLayerNormalization", "x", "x", scale, shift, gives=["y", "mean"], **MS)
    outputs = [end("y", FLOAT, "n", 8), *([end("mean", FLOAT, "n", 1)] if read else [])]
    raw = draw.model([end("x", FLOAT, "n", 8)], outputs, com_microsoft=1)
    model = ir.serde.deserialize_model(onnx.load_from_string(raw))
    assert spell_out_fused(model) == (0 if read else 1)
    parts = {"Add": 1, "LayerNormalization": 1, "Identity": 1}
    assert operators(model) == ({"SkipLayerNormalization": 1} if read else parts)


def test_an_output_that_is_left_out_gets_no_type() -> None:
    """It has no name, so its type would be that of every input that is left out."""
    draw = Drawing(10)
    scale, shift = draw.keep(np.ones(8, np.float32)), draw.weight(8)
    outputs = ["y", "", "", "total"]
    draw("SkipLayerNormalization", "x", "x", scale, shift, gives=outputs, **MS)
    raw = draw.model([end("x", FLOAT, "n", 8)], [end("y", FLOAT, "n", 8)], com_microsoft=1)
    model = ir.serde.deserialize_model(onnx.load_from_string(raw))
    infer(model)
    types = [value.dtype for value in model.graph[0].outputs]
    assert types == [ir.DataType.FLOAT, None, None, ir.DataType.FLOAT]

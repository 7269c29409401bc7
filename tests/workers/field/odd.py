"""Graphs of forms that are rare, and that the standard allows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from tests.workers.field.draw import BOOL, FLOAT, HALF, INT64, Drawing, end, normal, pictures
from tests.workers.field.graphs import Field

INT32, UINT8, STRING = TensorProto.INT32, TensorProto.UINT8, TensorProto.STRING
ROWS = 60


def loop_with_a_branch() -> Field:
    """A Loop whose body holds an If; one branch has a weight of its own, one reads an outer one."""
    own, outer, body, draw = Drawing(33, "t_"), Drawing(34, "e_"), Drawing(35, "l_"), Drawing(36)
    first = own("MatMul", "l_state", own.weight(24, 24))
    second = outer("Relu", outer("MatMul", "l_state", "shared"))
    even = body("Equal", body("Mod", "l_turn", body.keep(np.int64(2))), body.keep(np.int64(0)))
    branches = {
        "then_branch": own.body("then", [], [end(first, FLOAT, "n", 24)]),
        "else_branch": outer.body("else", [], [end(second, FLOAT, "n", 24)]),
    }
    body("If", even, gives=["l_next"], **branches)
    total = body("ReduceSum", "l_next", keepdims=0)
    body("Less", total, body.keep(np.float32(1e9)), gives=["l_more"])
    inputs = [end("l_turn", INT64), end("l_go", BOOL), end("l_state", FLOAT, "n", 24)]
    inner = body.body("turn", inputs, [end("l_more", BOOL), end("l_next", FLOAT, "n", 24)])
    draw.weight(24, 24, name="shared")
    begin = draw("MatMul", "x", draw.weight(8, 24))
    draw("Loop", draw.keep(np.int64(4)), "", begin, gives=["last"], body=inner)
    draw("MatMul", "last", draw.weight(24, 3), gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 8)], [end("y", FLOAT, "n", 3)])
    return Field(model, {"x": normal(37, ROWS, 8)})


def scan_over_steps() -> Field:
    """A Scan over a dynamic number of steps, its state expanded to as many samples as there are."""
    body, draw = Drawing(3, "s/ "), Drawing(4)
    both = body("Concat", "s_state", "s_x", axis=1)
    new = body("Tanh", body("Gemm", both, body.weight(48, 32), "bias"))
    body("Identity", new, gives=["s_out"])
    states = [end("s_state", FLOAT, "n", 32), end("s_x", FLOAT, "n", 16)]
    inner = body.body("step", states, [end(new, FLOAT, "n", 32), end("s_out", FLOAT, "n", 32)])
    draw.weight(32, name="bias")
    steps = draw("Transpose", "x", perm=[1, 0, 2])
    count = draw("Gather", draw("Shape", "x"), draw.whole(0), axis=0)
    nothing = draw.keep(np.zeros((1, 32), np.float32))
    start = draw("Expand", nothing, draw("Concat", count, draw.whole(32), axis=0))
    draw("Scan", start, steps, gives=["last", "all"], body=inner, num_scan_inputs=1)
    draw("MatMul", "last", draw.weight(32, 7), gives=["y"])
    model = draw.model([end("x", FLOAT, "n", "t", 16)], [end("y", FLOAT, "n", 7)])
    return Field(model, {"x": normal(5, ROWS, 6, 16)})


def two_batches() -> Field:
    """Queries and passages, each any number, and a score for each pair: runs mix samples."""
    draw = Drawing(6)
    shared = draw.weight(16, 64)
    query, passage = (draw("Relu", draw("MatMul", x, shared)) for x in ("query", "passage"))
    turned = draw("Transpose", passage, perm=[1, 0])
    draw("MatMul", draw("MatMul", query, draw.weight(64, 64)), turned, gives=["scores"])
    inputs = [end("query", FLOAT, "n", 16), end("passage", FLOAT, "m", 16)]
    model = draw.model(inputs, [end("scores", FLOAT, "n", "m")])
    return Field(model, {"query": normal(7, ROWS, 16), "passage": normal(8, ROWS, 16)})


def narrow_integers() -> Field:
    """Ids in int32, pictures in bytes, a label in int64 before the scores."""
    draw, random = Drawing(11), np.random.default_rng(0)
    words = draw("ReduceMean", draw("Gather", draw.weight(50, 32), "ids"), axes=[1], keepdims=0)
    light = draw("Mul", draw("Cast", "picture", to=FLOAT), draw.keep(np.float32(1 / 255)))
    seen = draw("Conv", light, draw.weight(16, 3, 3, 3), draw.weight(16), strides=[2, 2])
    seen = draw("Flatten", draw("GlobalAveragePool", draw("Relu", seen)))
    both = draw("Concat", words, seen, axis=1)
    hidden = draw("Relu", draw("Gemm", both, draw.weight(48, 64), draw.weight(64)))
    scores = draw("MatMul", hidden, draw.weight(64, 4), gives=["scores"])
    draw("ArgMax", scores, axis=1, keepdims=0, gives=["label"])
    inputs = [end("ids", INT32, "n", "s"), end("picture", UINT8, "n", 3, 12, 12)]
    outputs = [end("label", INT64, "n"), end("scores", FLOAT, "n", 4)]
    data: dict[str, NDArray[Any]] = {
        "ids": random.integers(0, 50, (ROWS, 5)).astype(np.int32),
        "picture": random.integers(0, 255, (ROWS, 3, 12, 12)).astype(np.uint8),
    }
    return Field(draw.model(inputs, outputs), data)


def nothing_answered() -> Field:
    """An output without elements, and one of which there is as much as the data make it."""
    draw = Drawing(12)
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(16, 32)))
    scores = draw("MatMul", hidden, draw.weight(32, 8), gives=["scores"])
    draw("Slice", scores, draw.whole(8), draw.whole(8), draw.whole(1), gives=["nothing"])
    large = draw("Greater", scores, draw.keep(np.float32(4)))
    draw("NonZero", large, gives=["places"])
    outputs = [
        end("nothing", FLOAT, "n", 0), end("places", INT64, 2, "k"), end("scores", FLOAT, "n", 8)
    ]  # fmt: skip
    return Field(draw.model([end("x", FLOAT, "n", 16)], outputs), {"x": normal(13, ROWS, 16)})


def sequence_of_parts() -> Field:
    """The parts of a layer's result, each of which goes through the body of SequenceMap."""
    draw, body = Drawing(3), Drawing(4, scope="body_")
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(16, 32)))
    parts = draw("SplitToSequence", hidden, draw.keep(np.int64(8)), axis=1)
    body("Relu", body("MatMul", "part", body.weight(8, 8)), gives=["mapped"])
    ends = [end("part", FLOAT, "n", 8)], [end("mapped", FLOAT, "n", 8)]
    mapped = draw("SequenceMap", parts, body=body.body("each", *ends))
    joined = draw("ConcatFromSequence", mapped, axis=1)
    draw("MatMul", joined, draw.weight(32, 3), gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 3)])
    return Field(model, {"x": normal(5, ROWS, 16)})


def optional_value() -> Field:
    """A value that is put into an optional one, and taken out again."""
    draw = Drawing(18)
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(16, 32)))
    there = draw("OptionalGetElement", draw("Optional", hidden))
    draw("MatMul", there, draw.weight(32, 3), gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 3)])
    return Field(model, {"x": normal(19, ROWS, 16)})


def names_of_any_kind() -> Field:
    """Slashes, blanks, umlauts and braces in names, one of 400 letters, nodes without any; and a
    weight that is there twice."""
    draw, weight, long = Drawing(20), 0.3 * normal(1, 16, 32), "very/long name " + "x" * 400
    one, other = draw.keep(weight, "model/layers.0/w 1"), draw.keep(weight, "model/layers.0/w 2")
    last = [draw.keep(0.3 * normal(2, 32, 5), f"{long}w"), draw.keep(normal(3, 5), "%s{}[*]")]
    draw.nodes += [
        helper.make_node("MatMul", ["in put/0:0", one], ["a/b c"]),
        helper.make_node("MatMul", ["in put/0:0", other], ["ä ü\\.."]),
        helper.make_node("Add", ["a/b c", "ä ü\\.."], [long], "same"),
        helper.make_node("Relu", [long], ["../../etc/passwd"], "same "),
        helper.make_node("Gemm", ["../../etc/passwd", *last], ["out put"], long),
    ]
    inputs, outputs = (
        [end("in put/0:0", FLOAT, "batch size/0", 16)], [end("out put", FLOAT, "batch size/0", 5)]
    )  # fmt: skip
    return Field(draw.model(inputs, outputs), {"in put/0:0": normal(21, ROWS, 16)})


def all_dynamic() -> Field:
    """An image network that declares no size at all, and computes shapes from shapes."""
    draw = Drawing(24)
    x = draw("Relu", draw("Conv", "x", draw.weight(16, 3, 3, 3), draw.weight(16), pads=[1] * 4))
    shape = draw("Shape", x)
    count = draw("Slice", shape, draw.whole(0), draw.whole(1), draw.whole(0))
    sides = draw("Mul", draw("Slice", shape, draw.whole(2), draw.whole(4)), draw.whole(2))
    sizes = draw("Concat", count, draw.whole(16), sides, axis=0)
    x = draw("Resize", x, "", "", sizes, mode="nearest")
    flat = draw("Reshape", x, draw("Concat", count, draw.whole(16, -1), axis=0))
    places = draw("Transpose", flat, perm=[0, 2, 1])
    scores = draw("MatMul", places, draw.weight(16, 9))
    draw("ReduceMax", scores, axes=[1], keepdims=0, gives=["y"])
    model = draw.model([end("x", FLOAT, "a", "b", "c", "d")], [end("y", FLOAT, "e", "f")])
    return Field(model, {"x": pictures(25, ROWS, 3, 8)})


def single_numbers() -> Field:
    """An input and an output without dimensions: a temperature, and a mean of all."""
    draw = Drawing(29)
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(16, 64)))
    y = draw("MatMul", draw("Div", hidden, "temperature"), draw.weight(64, 8), gives=["y"])
    draw("ReduceMean", y, keepdims=0, gives=["mean"])
    inputs = [end("x", FLOAT, "n", 16), end("temperature", FLOAT)]
    model = draw.model(inputs, [end("y", FLOAT, "n", 8), end("mean", FLOAT)])
    return Field(model, {"x": normal(30, ROWS, 16), "temperature": np.ones(ROWS, np.float32)})


def plain() -> Field:
    """Two layers."""
    draw = Drawing(41)
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(16, 64)))
    draw("MatMul", hidden, draw.weight(64, 8), gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 8)])
    return Field(model, {"x": normal(42, ROWS, 16)})


def without_a_layer() -> Field:
    """Nothing with a weight."""
    draw = Drawing(43)
    draw("Softmax", draw("Relu", "x"), axis=1, gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 16)])
    return Field(model, {"x": normal(44, ROWS, 16)})


def weight_as_output() -> Field:
    """A weight that is an output too, and an input that is."""
    draw = Drawing(31)
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(16, 64, name="w")))
    draw("Identity", "w", gives=["table"])
    draw("Identity", "x", gives=["same"])
    draw("MatMul", hidden, draw.weight(64, 8), gives=["y"])
    outputs = [
        end("y", FLOAT, "n", 8), end("table", FLOAT, 16, 64), end("same", FLOAT, "n", 16)
    ]  # fmt: skip
    return Field(draw.model([end("x", FLOAT, "n", 16)], outputs), {"x": normal(32, ROWS, 16)})


def half_loop() -> Field:
    """A Loop in half that shares its weight with the graph, and whose state nearly vanishes."""
    draw, body = Drawing(7), Drawing(8, "l_")
    state = body("Relu", body("MatMul", "l_state", "shared"))
    body("Identity", "l_go", gives=["l_more"])
    inputs = [end("l_turn", INT64), end("l_go", BOOL), end("l_state", HALF, "n", 16)]
    inner = body.body("turn", inputs, [end("l_more", BOOL), end(state, HALF, "n", 16)])
    draw.weight(16, 16, dtype=np.float16, name="shared")
    turns = draw("Cast", draw("ReduceMax", "turns", keepdims=0), to=INT64)
    draw("Loop", turns, draw.keep(np.bool_(True)), "x", gives=["last"], body=inner)
    draw("MatMul", "last", "shared", gives=["y"])
    model = draw.model(
        [end("x", HALF, "n", 16), end("turns", INT64, "n")], [end("y", HALF, "n", 16)]
    )
    data: dict[str, NDArray[Any]] = {
        "x": normal(9, ROWS, 16).astype(np.float16), "turns": np.full(ROWS, 3)
    }  # fmt: skip
    return Field(model, data)


def _scores_and_label(draw: Drawing, table: str, columns: int) -> list[ValueInfoProto]:
    """Draw a classifier of a table's rows; return its outputs, scores and a label in words."""
    hidden = draw("Relu", draw("Gemm", table, draw.weight(columns, 64), draw.weight(64)))
    scores = draw("Gemm", hidden, draw.weight(64, 3), draw.weight(3), gives=["scores"])
    draw("ArgMax", scores, axis=1, keepdims=0, gives=["place"])
    names = ["cat", "dog", "emu"]
    draw(
        "LabelEncoder", "place", domain="ai.onnx.ml", keys_int64s=[0, 1, 2], values_strings=names,
        gives=["label"],
    )  # fmt: skip
    return [end("scores", FLOAT, "n", 3), end("label", STRING, "n")]


def words_to_labels() -> Field:
    """Strings come in and go out, between operators of scikit-learn's exports."""
    draw = Drawing(9)
    ids = draw(
        "LabelEncoder", "words", domain="ai.onnx.ml", keys_strings=["a", "b"],
        values_floats=[0.0, 1.0], default_float=2.0,
    )  # fmt: skip
    filled = draw("Imputer", ids, domain="ai.onnx.ml", imputed_value_floats=[0.0])
    outputs = _scores_and_label(draw, filled, 4)
    return Field(draw.model([end("words", STRING, "n", 4)], outputs, ai_onnx_ml=3), {})


def boxes_that_overlap() -> Field:
    """A detector that leaves boxes out which overlap, by thresholds that are scalars."""
    draw = Drawing(31)
    seen = draw("Relu", draw("Conv", "x", draw.weight(16, 3, 3, 3), strides=[2, 2], pads=[1] * 4))
    places = draw("Transpose", draw("Conv", seen, draw.weight(4, 16, 1, 1)), perm=[0, 2, 3, 1])
    draw("Reshape", places, draw.whole(1, -1, 4), gives=["boxes"])
    chances = draw("Sigmoid", draw("Conv", seen, draw.weight(2, 16, 1, 1)))
    scores = draw("Reshape", chances, draw.whole(1, 2, -1))
    limits = (draw.keep(number) for number in (np.int64(5), np.float32(0.5), np.float32(0.4)))
    draw("NonMaxSuppression", "boxes", scores, *limits, gives=["picked"])
    model = draw.model(
        [end("x", FLOAT, 1, 3, 8, 8)],
        [end("boxes", FLOAT, 1, 16, 4), end("picked", INT64, "k", 3)],
    )
    return Field(model, {"x": pictures(32, ROWS, 3, 8)})


def stacked_matrices() -> Field:
    """Matrices in stacks that multiply one another and are summed up: a whole one can go."""
    draw = Drawing(33)
    rows = draw("Unsqueeze", "x", draw.whole(1))
    hidden = draw("Relu", draw("MatMul", rows, draw.keep(0.25 * normal(34, 1, 4, 16, 16))))
    parts = draw("MatMul", hidden, draw.keep(0.25 * normal(35, 4, 16, 8)))
    draw("ReduceSum", parts, draw.whole(1), keepdims=0, gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 6, 16)], [end("y", FLOAT, "n", 6, 8)])
    return Field(model, {"x": normal(36, ROWS, 6, 16)})


def labels_of_numbers() -> Field:
    """A label in words beside the scores, of a table with missing values."""
    draw = Drawing(10)
    filled = draw("Imputer", "x", domain="ai.onnx.ml", imputed_value_floats=[0.0] * 8)
    outputs = _scores_and_label(draw, filled, 8)
    model = draw.model([end("x", FLOAT, "n", 8)], outputs, ai_onnx_ml=3)
    return Field(model, {"x": normal(11, ROWS, 8)})


def nothing_to_descend() -> Field:
    """Answers of yes and no, and bytes of a picture: no output has a gradient."""
    draw = Drawing(12)
    hidden = draw("Relu", draw("MatMul", "x", draw.weight(16, 32)))
    scores = draw("MatMul", hidden, draw.weight(32, 3))
    draw("Greater", scores, draw.keep(np.float32(0)), gives=["yes"])
    bright = draw("Clip", scores, draw.keep(np.float32(0)), draw.keep(np.float32(255)))
    draw("Cast", bright, to=UINT8, gives=["bytes"])
    outputs = [end("yes", BOOL, "n", 3), end("bytes", UINT8, "n", 3)]
    return Field(draw.model([end("x", FLOAT, "n", 16)], outputs), {"x": normal(13, ROWS, 16)})

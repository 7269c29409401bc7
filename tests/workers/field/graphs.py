"""The graphs: what each has that made a converter or quantizer fail somewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.workers.field.draw import (
    BOOL,
    DOUBLE,
    FLOAT,
    HALF,
    INT64,
    Drawing,
    end,
    normal,
    pictures,
)

SAMPLES = 120


@dataclass(frozen=True)
class Field:
    """An upload and its data."""

    model: bytes
    data: Mapping[str, NDArray[Any]]


def masked_by_the_lowest_number() -> Field:
    """Attention whose mask is float32's lowest number, and an epsilon far below half's least.

    coremltools#2669: in half the mask is minus infinity, which times zero is NaN.
    """
    draw = Drawing(37)
    open_places = draw("Cast", "mask", to=FLOAT)
    closed = draw("Sub", draw.keep(np.float32(1)), draw("Unsqueeze", open_places, draw.whole(1)))
    lowest = draw.keep(np.finfo(np.float32).min)
    query, key, value = (draw("MatMul", "x", draw.weight(32, 32)) for _ in range(3))
    scores = draw("MatMul", query, draw("Transpose", key, perm=[0, 2, 1]))
    chances = draw("Softmax", draw("Add", scores, draw("Mul", closed, lowest)), axis=-1)
    rest = draw("Add", draw("MatMul", chances, value), "x")
    centred = draw("Sub", rest, draw("ReduceMean", rest, axes=[-1]))
    variance = draw("ReduceMean", draw("Mul", centred, centred), axes=[-1])
    deviation = draw("Sqrt", draw("Add", variance, draw.keep(np.float32(1e-12))))
    draw("MatMul", draw("Div", centred, deviation), draw.weight(32, 16), gives=["y"])
    lengths = np.random.default_rng(1).integers(0, 9, (SAMPLES, 1))  # some are all padding
    return Field(
        draw.model(
            [end("x", FLOAT, "n", 8, 32), end("mask", INT64, "n", 8)], [end("y", FLOAT, "n", 8, 16)]
        ),
        {"x": normal(2, SAMPLES, 8, 32), "mask": (np.arange(8) < lengths).astype(np.int64)},
    )


def resized() -> Field:
    """Two ways to enlarge, by computed sizes and by scales, which are float32 by the standard.

    onnxconverter-common#306: scales in half make the model invalid.
    """
    draw = Drawing(3)
    small = draw(
        "Relu", draw("Conv", "x", draw.weight(16, 3, 3, 3), draw.weight(16), strides=[2, 2],
                     pads=[1] * 4)
    )  # fmt: skip
    nothing = draw.keep(np.zeros(0, np.float32))
    begin = draw("Slice", draw("Shape", small), draw.whole(0), draw.whole(2), draw.whole(0))
    sizes = draw("Concat", begin, draw.whole(16, 16), axis=0)
    first = draw(
        "Resize", small, nothing, nothing, sizes, mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    scales = draw.keep(np.array([1, 1, 2, 2], np.float32))
    second = draw("Resize", small, "", scales, mode="linear")
    both = draw("Concat", first, second, axis=1)
    draw(
        "Sigmoid", draw("Conv", both, draw.weight(4, 32, 3, 3), draw.weight(4), pads=[1] * 4),
        gives=["mask"],
    )  # fmt: skip
    return Field(
        draw.model([end("x", FLOAT, "n", 3, 16, 16)], [end("mask", FLOAT, "n", 4, 16, 16)], 13),
        {"x": pictures(4, SAMPLES, 3, 16)},
    )


_WIDTH, _WORDS, _KEYS = 32, 60, 16


def _decoder(scope: str, *, cached: bool) -> onnx.GraphProto:
    """One branch of a merged decoder; its output matrix is the same in both."""
    draw = Drawing(5, scope)
    words = draw("Gather", "embedding", "ids")
    query = draw("MatMul", words, "wq")
    key = draw("MatMul", words, "wk")
    if cached:
        key = draw("Concat", "past", key, axis=1)
    present = draw("Identity", key)
    scores = draw("MatMul", query, draw("Transpose", present, perm=[0, 2, 1]))
    read = draw("MatMul", draw("Softmax", scores, axis=-1), present)
    new = draw("Add", words, draw("MatMul", read, draw.weight(_KEYS, _WIDTH)))
    logits = draw("MatMul", new, draw("Transpose", "embedding", perm=[1, 0]))
    return draw.body(
        scope, [], [end(logits, FLOAT, "n", "s", _WORDS), end(present, FLOAT, "n", "t", _KEYS)]
    )


def merged_decoder() -> Field:
    """A decoder with and without a past in two branches that read the same weights.

    onnxruntime#21277, optimum#1687: one branch gets the quantized weight, the other keeps the float
    one, and the file grows.
    """
    draw = Drawing(4)
    draw.weight(_WORDS, _WIDTH, gain=8, name="embedding")
    draw.weight(_WIDTH, _KEYS, name="wq")
    draw.weight(_WIDTH, _KEYS, name="wk")
    branches = {
        "then_branch": _decoder("cached_", cached=True),
        "else_branch": _decoder("fresh_", cached=False),
    }
    draw("If", "use_cache", gives=["logits", "present"], **branches)
    random = np.random.default_rng(6)
    inputs = [
        end("ids", INT64, "n", "s"),
        end("past", FLOAT, "n", "p", _KEYS),
        end("use_cache", BOOL, 1),
    ]
    outputs = [end("logits", FLOAT, "n", "s", _WORDS), end("present", FLOAT, "n", "t", _KEYS)]
    return Field(
        draw.model(inputs, outputs, 14),
        {
            "ids": random.integers(0, _WORDS, (SAMPLES, 3)),
            "past": normal(7, SAMPLES, 5, _KEYS),
            "use_cache": random.random(SAMPLES) < 0.5,
        },
    )


def sequences() -> Field:
    """Tensors that travel in sequences, which no Cast converts.

    openvino#26107, onnxruntime#16006, #18481: seq(float16) where seq(float) is read.
    """
    draw = Drawing(6)
    halves = draw("SplitToSequence", "x", draw.keep(np.int64(4)), axis=1)
    first = draw("MatMul", draw("SequenceAt", halves, draw.keep(np.int64(0))), draw.weight(32, 32))
    last = draw("Relu", draw("SequenceAt", halves, draw.keep(np.int64(-1))))
    last = draw("MatMul", last, draw.weight(32, 32))
    again = draw("SequenceInsert", draw("SequenceConstruct", first), last)
    draw("MatMul", draw("ConcatFromSequence", again, axis=1), draw.weight(32, 10), gives=["y"])
    return Field(
        draw.model([end("x", FLOAT, "n", 8, 32)], [end("y", FLOAT, "n", 8, 10)]),
        {"x": normal(8, SAMPLES, 8, 32)},
    )


def grouped_transposed() -> Field:
    """Transposed convolutions, one in two groups whose channels differ a hundredfold in size.

    onnxruntime#19694, #26456, executorch#17842: scales on the wrong axis, of another length than
    the bias's.
    """
    draw = Drawing(8)
    x = draw("Conv", "x", draw.weight(32, 1, 3, 3), draw.weight(32), strides=[2, 2], pads=[1] * 4)
    x = draw("Conv", draw("Relu", x), draw.weight(32, 32, 3, 3), draw.weight(32), pads=[1] * 4)
    spread = np.geomspace(0.05, 5, 12).reshape(1, 12, 1, 1) / 12
    kernel = draw.keep((draw.random.standard_normal((32, 12, 3, 3)) * spread).astype(np.float32))
    x = draw(
        "ConvTranspose", draw("Relu", x), kernel, draw.weight(24), group=2, strides=[2, 2],
        pads=[1] * 4, output_padding=[1, 1],
    )  # fmt: skip
    last = [draw.weight(24, 2, 2, 2), draw.weight(2)]
    draw("ConvTranspose", draw("Relu", x), *last, strides=[2, 2], gives=["mask"])
    return Field(
        draw.model([end("x", FLOAT, "n", 1, 16, 16)], [end("mask", FLOAT, "n", 2, 32, 32)]),
        {"x": pictures(9, SAMPLES, 1, 16)},
    )


def padded_rows() -> Field:
    """Attention whose rows of padding are NaN on the way, and zero in the end.

    onnxruntime#23749: one NaN in calibration makes a scale NaN.
    """
    draw = Drawing(13)
    mask = draw("Cast", "mask", to=BOOL)
    column = draw("Unsqueeze", mask, draw.whole(2))
    both = draw("And", draw("Unsqueeze", mask, draw.whole(1)), column)
    query, key, value = (draw("MatMul", "x", draw.weight(32, 32)) for _ in range(3))
    scores = draw("MatMul", query, draw("Transpose", key, perm=[0, 2, 1]))
    scores = draw("Where", both, scores, draw.keep(np.float32(-np.inf)))
    read = draw("MatMul", draw("Softmax", scores, axis=-1), value)
    rest = draw("Add", draw("MatMul", read, draw.weight(32, 32)), "x")
    draw("Where", column, rest, draw.keep(np.float32(0)), gives=["y"])
    lengths = np.random.default_rng(14).integers(2, 9, (SAMPLES, 1))
    return Field(
        draw.model(
            [end("x", FLOAT, "n", 8, 32), end("mask", INT64, "n", 8)], [end("y", FLOAT, "n", 8, 32)]
        ),
        {"x": normal(15, SAMPLES, 8, 32), "mask": (np.arange(8) < lengths).astype(np.int64)},
    )


def uploaded_in_half() -> Field:
    """A convolutional network that is in float16 already.

    onnxruntime-inference-examples#363, AMDMIGraphX#3049: quantizers leave a graph of mixed types.
    """
    draw = Drawing(20)

    def half(*shape: int) -> str:
        return draw.weight(*shape, dtype=np.float16)

    x = draw("Relu", draw("Conv", "x", half(16, 3, 3, 3), half(16), pads=[1] * 4))
    x = draw("Relu", draw("Conv", x, half(32, 16, 3, 3), half(32), strides=[2, 2]))
    x = draw("Flatten", draw("GlobalAveragePool", x))
    draw("Gemm", x, half(32, 10), half(10), gives=["y"])
    return Field(
        draw.model([end("x", HALF, "n", 3, 12, 12)], [end("y", HALF, "n", 10)]),
        {"x": pictures(21, SAMPLES, 3, 12).astype(np.float16)},
    )


def doubles_and_trees() -> Field:
    """A pipeline in float64: a scaler, a small network, and a tree of ai.onnx.ml beside it.

    sklearn-onnx#1102: float64 where the trees want float32.
    """
    draw = Drawing(29)
    centred = draw("Sub", "features", draw.keep(draw.random.standard_normal(8)))
    scaled = draw("Div", centred, draw.keep(1 + draw.random.random(8)))
    hidden = draw("Relu", draw("MatMul", scaled, draw.weight(8, 64, dtype=np.float64)))
    network = draw("MatMul", hidden, draw.weight(64, 1, dtype=np.float64))
    tree: dict[str, Any] = {
        "nodes_treeids": [0] * 3,
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [3, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.1, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "nodes_missing_value_tracks_true": [0] * 3,
        "nodes_hitrates": [1.0] * 3,
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [-1.0, 1.0],
    }
    narrow = draw("Cast", scaled, to=FLOAT)
    trees = draw("TreeEnsembleRegressor", narrow, domain="ai.onnx.ml", n_targets=1, **tree)
    draw("Add", network, draw("Cast", trees, to=DOUBLE), gives=["y"])
    data = np.random.default_rng(30).standard_normal((300, 8))
    return Field(
        draw.model([end("features", DOUBLE, "n", 8)], [end("y", DOUBLE, "n", 1)], 18, ai_onnx_ml=3),
        {"features": data},
    )


def one_sample_only() -> Field:
    """A transformer whose declared dynamic batch is a lie: a Reshape holds the 1."""
    draw = Drawing(41)
    x = draw("Gather", draw.weight(90, 32, gain=6), "ids")
    heads = [
        draw("Reshape", draw("MatMul", x, draw.weight(32, 32)), draw.whole(1, -1, 2, 16))
        for _ in range(3)
    ]
    query, value = (draw("Transpose", heads[i], perm=[0, 2, 1, 3]) for i in (0, 2))
    key = draw("Transpose", heads[1], perm=[0, 2, 3, 1])
    read = draw("MatMul", draw("Softmax", draw("MatMul", query, key), axis=-1), value)
    flat = draw("Reshape", draw("Transpose", read, perm=[0, 2, 1, 3]), draw.whole(1, -1, 32))
    x = draw("Add", x, draw("MatMul", flat, draw.weight(32, 32)))
    wide = draw("Relu", draw("MatMul", x, draw.weight(32, 64)))
    x = draw("Add", x, draw("MatMul", wide, draw.weight(64, 32)))
    draw("MatMul", x, draw.weight(32, 2), gives=["tags"])
    return Field(
        draw.model([end("ids", INT64, "batch", "seq")], [end("tags", FLOAT, "batch", "seq", 2)]),
        {"ids": np.random.default_rng(42).integers(0, 90, (SAMPLES, 12))},
    )


def steps_first() -> Field:
    """A recurrent network that reads ``[steps, samples, features]``, and states by layers.

    No first dimension counts samples; in the data they are the first of every array all the same.
    """
    draw, layers, steps, units = Drawing(45), 3, 20, 32
    value = draw("Relu", draw("MatMul", "x", draw.weight(37, 64)))
    last = []
    for layer in range(layers):
        bounds = draw.whole(layer), draw.whole(layer + 1), draw.whole(0)
        state, cell = (draw("Slice", name, *bounds) for name in ("state", "cell"))
        inputs = 64 if layer == 0 else units
        weights = [draw.keep(0.15 * normal(layer, 1, 4 * units, n)) for n in (inputs, units)]
        name = f"layer_{layer}"
        draw(
            "LSTM", value, *weights, "", "", state, cell, gives=[name, f"{name}_state"],
            hidden_size=units,
        )  # fmt: skip
        value = draw("Squeeze", name, draw.whole(1))
        last.append(f"{name}_state")
    wide = draw("Relu", draw("MatMul", value, draw.weight(units, 64)))
    draw("MatMul", wide, draw.weight(64, 5), gives=["tags"])
    draw("Concat", *last, axis=0, gives=["next"])
    return Field(
        draw.model(
            [
                end("x", FLOAT, steps, "n", 37),
                end("state", FLOAT, layers, "n", units),
                end("cell", FLOAT, layers, "n", units),
            ],
            [end("tags", FLOAT, steps, "n", 5), end("next", FLOAT, layers, "n", units)],
        ),
        {
            "x": normal(1, SAMPLES, steps, 37),
            "state": normal(2, SAMPLES, layers, units),
            "cell": normal(3, SAMPLES, layers, units),
        },
    )


def boxes_beside_scores(*, outputs: int = 1, shift: float = 0, turned: bool = False) -> Field:
    """A detector's head: boxes in pixels and scores from 0 to 1, side by side.

    Args:
        outputs: 1 joins them in one output, of 4 channels and 6; 2 leaves them apart.
        shift: pixels that boxes are off by.
        turned: each score is that of its neighbour.
    """
    draw = Drawing(43)

    def conv(x: str, outputs: int, inputs: int, kernel: int, **attributes: Any) -> str:
        kernels = draw.weight(outputs, inputs, kernel, kernel)
        return draw("Conv", x, kernels, draw.weight(outputs), **attributes)

    halved = {"pads": [1] * 4, "strides": [2, 2]}
    x = draw("Relu", conv("x", 16, 3, 3, **halved))
    x = draw("Relu", conv(x, 32, 16, 3, **halved))
    boxes = draw("Mul", draw("Sigmoid", conv(x, 4, 32, 1)), draw.keep(np.float32(320)))
    rare = draw("Add", conv(x, 6, 32, 1), draw.keep(np.float32(-4)))
    scores = draw("Sigmoid", rare)
    if turned:
        scores = draw("Gather", scores, draw.whole(1, 2, 3, 4, 5, 0), axis=1)
    if shift:
        boxes = draw("Add", boxes, draw.keep(np.float32(shift)))
    if outputs == 1:
        draw("Concat", boxes, scores, axis=1, gives=["all"])
        ends = [end("all", FLOAT, "n", 10, 8, 8)]
    else:
        draw("Identity", boxes, gives=["boxes"])
        draw("Identity", scores, gives=["scores"])
        ends = [end("boxes", FLOAT, "n", 4, 8, 8), end("scores", FLOAT, "n", 6, 8, 8)]
    return Field(
        draw.model([end("x", FLOAT, "n", 3, 32, 32)], ends), {"x": pictures(44, 160, 3, 32)}
    )

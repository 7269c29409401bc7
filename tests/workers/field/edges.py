"""Graphs at the edge of what has meaning: empty weights, weights on the left, weights of NaN."""

import numpy as np
import onnx

from tests.workers.field.draw import BOOL, FLOAT, INT64, Drawing, end, normal
from tests.workers.field.graphs import Field

ROWS = 60


def _two_layers(draw: Drawing, read: str, inputs: int, hidden: int) -> None:
    """Draw two products with a Relu between, which give ``y`` of four features."""
    wide = draw("Relu", draw("MatMul", read, draw.weight(inputs, hidden)))
    draw("MatMul", wide, draw.weight(hidden, 4), gives=["y"])


def empty_weight() -> Field:
    """A product over nothing, as exporters leave where a network has no extra features."""
    draw = Drawing(1)
    nothing = draw("Slice", "x", draw.whole(0), draw.whole(0), draw.whole(1))
    extra = draw("MatMul", nothing, draw.keep(np.zeros((0, 32), np.float32)))
    both = draw("Add", draw("MatMul", "x", draw.weight(16, 32)), extra)
    draw("MatMul", draw("Relu", both), draw.weight(32, 4), gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 4)])
    return Field(model, {"x": normal(2, ROWS, 16)})


def spectrogram() -> Field:
    """A short-time Fourier transform whose ``onesided`` is left to its default."""
    draw = Drawing(3)
    window = draw.keep(np.hanning(16).astype(np.float32))
    waves = draw("STFT", "wave", draw.keep(np.int64(8)), window, draw.keep(np.int64(16)))
    power = draw("ReduceSumSquare", waves, axes=[3], keepdims=0)
    bands = draw("MatMul", power, draw.keep(np.abs(normal(4, 9, 8))))
    level = draw("Log", draw("Add", bands, draw.keep(np.float32(1e-3))))
    draw("MatMul", level, draw.weight(8, 4), gives=["y"])
    model = draw.model([end("wave", FLOAT, "n", 64, 1)], [end("y", FLOAT, "n", "t", 4)])
    return Field(model, {"wave": normal(5, ROWS, 64, 1)})


def weight_on_the_left() -> Field:
    """Matrices that multiply from the left mix the rows of each sample, as in an MLP-Mixer."""
    draw = Drawing(6)
    wide = draw("Relu", draw("MatMul", draw.weight(24, 12), "x"))
    draw("MatMul", draw.weight(4, 24), wide, gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 12, 16)], [end("y", FLOAT, "n", 4, 16)])
    return Field(model, {"x": normal(7, ROWS, 12, 16)})


def layer_in_a_loop() -> Field:
    """A loop of as many turns as there are steps; its body has the only layer."""
    body, draw = Drawing(8, "l_"), Drawing(9)
    body("Identity", "l_go", gives=["l_more"])
    turned = body("MatMul", "l_state", body.weight(64, 64, gain=0.3))
    body("Add", "l_state", turned, gives=["l_next"])
    inputs = [end("l_turn", INT64), end("l_go", BOOL), end("l_state", FLOAT, "n", 64)]
    inner = body.body("turn", inputs, [end("l_more", BOOL), end("l_next", FLOAT, "n", 64)])
    steps = draw("Slice", draw("Shape", "x"), draw.whole(1), draw.whole(2))
    begin = draw("ReduceMean", "x", axes=[1], keepdims=0)
    count = draw("Squeeze", steps)
    draw("Loop", count, draw.keep(np.array(True)), begin, gives=["y"], body=inner)
    model = draw.model([end("x", FLOAT, "n", "t", 64)], [end("y", FLOAT, "n", 64)])
    return Field(model, {"x": normal(10, ROWS, 3, 64)})


def spoilt_weight() -> Field:
    """A weight that holds NaN and infinity beside one that does not."""
    draw = Drawing(11)
    weight = normal(12, 16, 32)
    weight[3, 3], weight[0, 1] = np.nan, np.inf
    draw("MatMul", "x", draw.keep(weight), gives=["spoilt"])
    _two_layers(draw, "x", 16, 32)
    model = draw.model(
        [end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 4), end("spoilt", FLOAT, "n", 32)]
    )
    return Field(model, {"x": normal(13, ROWS, 16)})


def with_metadata() -> Field:
    """A classifier that names its classes in the file, for the program that runs it."""
    draw = Drawing(14)
    _two_layers(draw, "x", 16, 32)
    model = onnx.load_from_string(draw.model([end("x", FLOAT, "n", 16)], [end("y", FLOAT, "n", 4)]))
    onnx.helper.set_model_props(model, {"names": "cat, dog, owl, bee", "stride": "32"})
    return Field(model.SerializeToString(), {"x": normal(15, ROWS, 16)})


def drawn_anew() -> Field:
    """Noise that differs each time, so that no pass is proved and the opset stays."""
    draw = Drawing(16)
    noise = draw("RandomNormalLike", "x", scale=0.01)
    _two_layers(draw, draw("Add", "x", noise), 48, 64)
    model = draw.model([end("x", FLOAT, "n", 48)], [end("y", FLOAT, "n", 4)])
    return Field(model, {"x": normal(17, ROWS, 48)})


def other_ranks() -> Field:
    """A stack of matrices, and a vector, each the weight of a MatMul."""
    draw = Drawing(18)
    rows = draw("Reshape", "x", draw.whole(0, 1, 1, 32))
    heads = draw("Relu", draw("MatMul", rows, draw.keep(0.3 * normal(19, 1, 4, 32, 16))))
    flat = draw("MatMul", draw("Reshape", heads, draw.whole(0, 64)), draw.weight(64, 64))
    draw("MatMul", flat, draw.keep(normal(20, 64)), gives=["y"])
    model = draw.model([end("x", FLOAT, "n", 32)], [end("y", FLOAT, "n")])
    return Field(model, {"x": normal(21, ROWS, 32)})


def masked_attention() -> Field:
    """Attention of onnxruntime with a causal mask, whose projections no method knows."""
    draw = Drawing(22)
    mask, zeros = draw.keep(np.ones((1, 6), np.int32)), draw.keep(np.zeros(96, np.float32))
    inputs = ("x", draw.weight(32, 96), zeros, mask)
    mixed = draw("Attention", *inputs, domain="com.microsoft", num_heads=4, unidirectional=1)
    _two_layers(draw, mixed, 32, 64)
    ends = [end("x", FLOAT, 1, 6, 32)], [end("y", FLOAT, 1, 6, 4)]
    return Field(draw.model(*ends, com_microsoft=1), {"x": normal(23, ROWS, 6, 32)})

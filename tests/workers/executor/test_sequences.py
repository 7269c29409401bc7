"""Sequences of tensors are computed as onnxruntime computes them, and gradients pass through."""

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from workers.compression.executor import build

GRAPHS = {
    "made, filled and emptied": """
        a, b = Split <axis = 1, num_outputs = 2> (x)
        none = SequenceEmpty ()
        first = SequenceInsert (none, a)
        both = SequenceConstruct (b, a)
        three = SequenceInsert (both, x, one)
        two = SequenceErase (three, zero)
        last = SequenceErase (three)
        joined = ConcatFromSequence <axis = 1> (two)
        stacked = ConcatFromSequence <axis = 0, new_axis = 1> (first)
        element = SequenceAt (last, last_place)
        sum = ReduceSum <keepdims = 0> (stacked)
        long = Concat <axis = 1> (joined, element)
        y = Add (long, sum)
    """,
    "split into one size": """
        parts = SplitToSequence <axis = 1> (x, three_size)
        turned = SequenceConstruct (x)
        last = SequenceAt (parts, last_place)
        y = Mul (last, last)
    """,
    "split into sizes that are computed": """
        double = Add (sizes, sizes)
        parts = SplitToSequence <axis = 1> (x, double)
        more = SequenceAt (parts, one)
        y = Mul (more, more)
    """,
    "split into slices": """
        slices = SplitToSequence <axis = 1, keepdims = 0> (x)
        kept = SplitToSequence <axis = 0> (x)
        count = SequenceLength (slices)
        number = Cast <to = 1> (count)
        row = SequenceAt (kept, one)
        stacked = ConcatFromSequence <axis = 1, new_axis = 1> (slices)
        scaled = Mul (stacked, number)
        y = Add (scaled, row)
    """,
    "mapped, with another sequence and what lies around": """
        parts = SplitToSequence <axis = 1> (x, three_size)
        others = SequenceConstruct (w, v)
        mapped, plain = SequenceMap (parts, others, sizes) <body = each (float[n, 3] p, float[3] q,
            int64[2] s) => (float[n, 3] r, float[n, 3] t) {
            c = Cast <to = 1> (s)
            k = ReduceSum <keepdims = 0> (c)
            m = Mul (p, q)
            t = Add (m, k)
            r = Mul (t, v)
        }>
        joined = ConcatFromSequence <axis = 1> (mapped)
        more = ConcatFromSequence <axis = 1> (plain)
        y = Mul (joined, more)
    """,
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_sequences_hold_what_onnxruntime_puts_into_them(graph: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    g (float[2, 6] x) => (float[n, m] y) <
        float[3] w = {{2, 3, 4}}, float[3] v = {{1, -1, 0.5}}, int64 zero = {{0}},
        int64 one = {{1}}, int64 last_place = {{-1}}, int64 three_size = {{3}},
        int64[2] sizes = {{1, 2}}
    > {{ {GRAPHS[graph]} }}"""
    proto = onnx.parser.parse_model(text)
    x = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    [wanted] = session.run(None, {"x": x})
    executor = build(ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto)))
    assert not executor.frozen
    feed = torch.from_numpy(x).requires_grad_()
    found = executor({"x": feed})["y"]
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-6)
    found.sum().backward()
    assert feed.grad is not None
    assert feed.grad.abs().sum() > 0


def test_an_output_that_is_a_sequence_is_left_out_as_strings_are() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        g (float[4] x) => (float[4] y, seq(float[2]) parts) <int64 two = {2}> {
            y = Relu (x)  parts = SplitToSequence (x, two)
        }"""
    )
    executor = build(ir.serde.deserialize_model(proto))
    assert list(executor({"x": torch.ones(4)})) == ["y"]

"""Residual blocks: what is one, what only looks like one, and what is left when one goes."""

import onnx
import onnx_ir as ir

from workers.compression.graph import residual

_LOOKALIKES = """
<ir_version: 10, opset_import: ["": 21]> g (float[4] x, float[4] other) => (float[4] y)
<float[4] w = {1, 2, 3, 4}> {
  [start] a = Relu (x)
  [twice] b = Add (a, a)
  [constant] k = Neg (w)
  [shifted] c = Add (b, k)
  [elsewhere] o = Relu (other)
  [joined] d = Add (c, o)
  [inside] h = Tanh (d)
  [first] e = Add (d, h)
  [more] i = Sin (e)
  [second] f = Add (i, e)
  y = Identity (f)
}
"""


def graph() -> ir.Model:
    return ir.serde.deserialize_model(onnx.parser.parse_model(_LOOKALIKES))


def test_a_block_is_a_sum_with_what_is_computed_from_the_shortcut_alone() -> None:
    """No block: a value twice, a sum with constants, a sum with what comes from another input."""
    found = residual.blocks(graph(), {})
    assert [(each.name, each.shortcut.name, each.branch) for each in found] == [
        ("first", "d", 1),
        ("second", "e", 0),
    ]


def test_consecutive_blocks_go_with_all_that_they_compute() -> None:
    model = graph()
    residual.drop(model, {}, {"first", "second"})
    assert [node.name for node in model.graph if node.op_type in ("Tanh", "Sin")] == []
    last = model.graph.outputs[0].producer()
    assert last is not None
    assert [value and value.name for value in last.inputs] == ["d"]

"""Recognise a LayerNormalization that an exporter spelled out."""

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase, RewriteRuleSet
from onnxscript.rewriter.pattern import OrValue

from workers.compression.graph.rewrites.idioms import rewrite

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def recognise_layer_normalization(model: ir.Model) -> int:
    """Replace ``(x - mean) / sqrt(variance + epsilon) * scale + bias`` by LayerNormalization.

    1. Over the last axis, with a scale and a bias that are vectors of its size.
    2. Squares by Mul or Pow, the quotient by Div or Reciprocal, operands in any order.

    Left alone: other axes; a form without scale or bias; one whose inner values another node
    reads. (The rule of onnxscript itself requires an explicit ``keepdims``.)
    """
    return rewrite(model, _RULES, {"Sqrt"}, {"Add"}, reach=4)


class _LayerNormalization(RewriteRuleClassBase):  # type: ignore[misc]
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias``."""

    def pattern(self, op: Any, x: Any, scale: Any, bias: Any, epsilon: Any) -> Any:
        mean = op.ReduceMean(x, _allow_other_inputs=True, _outputs=["mean"])
        centred = op.Sub(x, mean)
        squares = OrValue([op.Mul(centred, centred), op.Pow(centred, 2.0)])
        variance = op.ReduceMean(squares, _allow_other_inputs=True, _outputs=["variance"])
        deviation = op.Sqrt(op.Add(variance, epsilon))
        normalised = OrValue(
            [op.Div(centred, deviation), op.Mul(centred, op.Reciprocal(deviation))]
        )
        return op.Add(op.Mul(normalised, scale), bias)

    def check(self, _context: Any, **values: ir.Value) -> MatchResult:
        """Refuse other axes, and scales that are not vectors."""
        x, verdict = values["x"], MatchResult()
        if x.shape is None or x.dtype not in _FLOATS or _element(values["epsilon"]) is None:
            return verdict.fail("type, rank or epsilon is unknown")
        if not all(_over_last(values[name], len(x.shape)) for name in ("mean", "variance")):
            return verdict.fail("it is not over the last axis")
        size = x.shape[-1]
        vectors = [values[name].shape for name in ("scale", "bias")]
        if not all(shape is not None and list(shape) == [size] for shape in vectors):
            return verdict.fail("scale or bias is no vector")
        return verdict

    def rewrite(self, op: Any, **values: ir.Value) -> Any:
        return op.LayerNormalization(
            values["x"],
            values["scale"],
            values["bias"],
            axis=-1,
            epsilon=_element(values["epsilon"]),
        )


def _over_last(reduced: ir.Value, rank: int) -> bool:
    node = reduced.producer()
    axes = node.inputs[1] if node is not None and len(node.inputs) > 1 else None
    tensor = ir.convenience.get_const_tensor(axes) if axes is not None else None
    if node is None or tensor is None or not node.attributes.get_int("keepdims", 1):
        return False
    return [axis % rank for axis in tensor.numpy().reshape(-1).tolist()] == [rank - 1]


def _element(value: ir.Value) -> float | None:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.size != 1 else float(tensor.numpy().reshape(()))


_RULES = RewriteRuleSet([_LayerNormalization.rule()], commute=True)

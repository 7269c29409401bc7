"""Recognise a HardSwish that an exporter spelled out."""

import onnx_ir as ir
from onnxscript.rewriter.rules.common import fuse_hardswish_rules

from workers.compression.graph.rewrites.idioms import rewrite

_RULES = fuse_hardswish_rules()


def recognise_hardswish(model: ir.Model) -> int:
    """Replace ``x * clip(x + 3, 0, 6) / 6`` by HardSwish, by onnxscript's rules.

    1. The same without the product becomes HardSigmoid.

    Left alone: one whose inner values another node reads.
    """
    return rewrite(model, _RULES, {"Clip", "HardSigmoid"}, {"Mul", "Div"}, reach=2)

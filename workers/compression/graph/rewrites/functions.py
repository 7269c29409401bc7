"""Inline model-local functions."""

import onnx_ir as ir
import onnx_ir.passes.common as passes


def inline_functions(model: ir.Model) -> int:
    """Replace every call of a model-local function by its body.

    1. Afterwards no local function is left: every node is a standard or contrib operator.
    2. Nested calls are inlined too; recursion was refused at intake.
    """
    count = len(model.functions)
    if count:
        passes.InlinePass()(model)
        passes.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    return count

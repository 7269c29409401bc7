"""Operators that microcontrollers have a newer kernel for than the one that LiteRT writes."""

from typing import Any

from workers.tools.tflite import code_of, packed, schema, unpacked


def with_newer_kernels(model: bytes) -> bytes:
    """Return a model that selects by SELECT_V2, as there is no SELECT on microcontrollers.

    The newer operator broadcasts, and does the same where all shapes are equal. SELECT also takes a
    condition for each row alone; such a one is left.
    """
    objects, names = unpacked(model), schema()
    old = [
        index
        for index, kind in enumerate(objects.operatorCodes)
        if code_of(kind) == names.BuiltinOperator.SELECT
    ]
    chosen = [
        operator
        for graph in objects.subgraphs
        for operator in graph.operators
        if operator.opcodeIndex in old and _ranks_are_equal(graph.tensors, operator.inputs)
    ]
    if not chosen:
        return model
    newer = names.OperatorCodeT()
    newer.builtinCode = newer.deprecatedBuiltinCode = names.BuiltinOperator.SELECT_V2
    newer.version = 1
    for operator in chosen:
        operator.opcodeIndex = len(objects.operatorCodes)
        operator.builtinOptionsType = names.BuiltinOptions.SelectV2Options
        operator.builtinOptions = names.SelectV2OptionsT()
    objects.operatorCodes.append(newer)
    return packed(objects, len(model))


def _ranks_are_equal(tensors: list[Any], inputs: list[int]) -> bool:
    return len({len(tensors[index].shape) for index in inputs}) == 1

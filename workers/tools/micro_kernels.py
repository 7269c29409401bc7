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


def with_float_extremes(model: bytes) -> bytes:
    """Return a model that finds by floats whether any or all truth values are true.

    LiteRT makes integers of them, and the kernel of microcontrollers takes the largest of floats
    alone. Masks are found so.
    """
    objects, names = unpacked(model), schema()
    kinds, types = names.BuiltinOperator, names.TensorType
    codes = [code_of(kind) for kind in objects.operatorCodes]
    found = False
    for graph in objects.subgraphs:
        tensors = graph.tensors
        casts = [each for each in graph.operators if codes[each.opcodeIndex] == kinds.CAST]
        of_truth = {
            int(cast.outputs[0])
            for cast in casts
            if tensors[cast.inputs[0]].type == types.BOOL
            and tensors[cast.outputs[0]].type == types.INT32
        }
        for operator in graph.operators:
            if codes[operator.opcodeIndex] not in {kinds.REDUCE_MAX, kinds.REDUCE_MIN}:
                continue
            read, given = int(operator.inputs[0]), int(operator.outputs[0])
            if (
                read in of_truth
                and _readers(graph, read) == [operator]
                and given not in graph.outputs
                and all(reader in casts for reader in _readers(graph, given))
            ):
                tensors[read].type = tensors[given].type = types.FLOAT32
                found = True
    return packed(objects, len(model)) if found else model


def _readers(graph: Any, tensor: int) -> list[Any]:
    return [each for each in graph.operators if each.inputs is not None and tensor in each.inputs]


def _ranks_are_equal(tensors: list[Any], inputs: list[int]) -> bool:
    return len({len(tensors[index].shape) for index in inputs}) == 1

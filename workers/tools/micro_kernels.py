"""Operators that microcontrollers have a newer kernel for than the one that LiteRT writes."""

from typing import Any

from workers.tools.tflite import code_of, schema


def select_by_newer(model: Any) -> bool:
    """Select by SELECT_V2, in place, as there is no SELECT on microcontrollers.

    The newer operator broadcasts, and does the same where all shapes are equal. SELECT also takes a
    condition for each row alone; such a one is left.

    Returns:
        Whether anything was changed.
    """
    names = schema()
    old = [
        index
        for index, kind in enumerate(model.operatorCodes)
        if code_of(kind) == names.BuiltinOperator.SELECT
    ]
    chosen = [
        operator
        for graph in model.subgraphs
        for operator in graph.operators
        if operator.opcodeIndex in old and _ranks_are_equal(graph.tensors, operator.inputs)
    ]
    if not chosen:
        return False
    newer = names.OperatorCodeT()
    newer.builtinCode = newer.deprecatedBuiltinCode = names.BuiltinOperator.SELECT_V2
    newer.version = 1
    for operator in chosen:
        operator.opcodeIndex = len(model.operatorCodes)
        operator.builtinOptionsType = names.BuiltinOptions.SelectV2Options
        operator.builtinOptions = names.SelectV2OptionsT()
    model.operatorCodes.append(newer)
    return True


def find_extremes_by_floats(model: Any) -> bool:
    """Find by floats whether any or all truth values are true, in place.

    LiteRT makes integers of them, and the kernel of microcontrollers takes the largest of floats
    alone. Masks are found so.

    Returns:
        Whether anything was changed.
    """
    kinds, types = schema().BuiltinOperator, schema().TensorType
    codes = [code_of(kind) for kind in model.operatorCodes]
    found = False
    for graph in model.subgraphs:
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
                and not {read, given} & set(map(int, graph.outputs))
                and all(reader in casts for reader in _readers(graph, given))
            ):
                tensors[read].type = tensors[given].type = types.FLOAT32
                found = True
    return found


def _readers(graph: Any, tensor: int) -> list[Any]:
    return [each for each in graph.operators if each.inputs is not None and tensor in each.inputs]


def _ranks_are_equal(tensors: list[Any], inputs: list[int]) -> bool:
    return len({len(tensors[index].shape) for index in inputs}) == 1

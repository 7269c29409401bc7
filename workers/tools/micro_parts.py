"""Arrays that are put together in several steps, as microcontrollers take ten at a time."""

from copy import copy
from typing import Any

from workers.tools.tflite import code_of, schema

_MOST = 10
"""The arrays that the kernel of CONCATENATION takes."""


def in_few_parts(model: Any) -> bool:
    """Put at most ten arrays together at a time, in place; return whether there were more.

    A layer that goes through moments puts one together for each.
    """
    names, found = schema(), False
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            kind = code_of(model.operatorCodes[operator.opcodeIndex])
            while kind == names.BuiltinOperator.CONCATENATION and len(operator.inputs) > _MOST:
                operators += _put_together(graph.tensors, operator)
                found = True
            operators.append(operator)
        graph.operators = operators
    return found


def _put_together(tensors: list[Any], operator: Any) -> list[Any]:
    """Return the operators that put each ten inputs of one together; that one reads what they give.

    Args:
        tensors: of the graph; those between are appended.
        operator: a CONCATENATION.
    """
    whole, steps, read = tensors[operator.outputs[0]], [], []
    axis = operator.builtinOptions.axis % len(whole.shape)
    for start in range(0, len(operator.inputs), _MOST):
        some = list(map(int, operator.inputs[start : start + _MOST]))
        part = copy(whole)
        part.name = whole.name + b"_part"
        part.buffer, part.shape, part.shapeSignature = 0, list(map(int, whole.shape)), None
        part.shape[axis] = sum(int(tensors[index].shape[axis]) for index in some)
        step = copy(operator)
        step.inputs, step.outputs = some, [len(tensors)]
        step.builtinOptions = copy(operator.builtinOptions)
        step.builtinOptions.fusedActivationFunction = 0
        read.append(len(tensors))
        tensors.append(part)
        steps.append(step)
    operator.inputs = read
    return steps

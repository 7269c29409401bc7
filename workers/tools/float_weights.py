"""Weights that a ``.tflite`` has in integers and computes with in float, as floats.

The kernel of microcontrollers that makes floats of integers takes the scale of the first channel
for all of them, where that of LiteRT takes each channel's own.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.tools.tflite import code_of, schema


def store_floats(model: Any) -> bool:
    """Store weights with a scale for each channel as floats where floats are read, in place.

    Layers that compute in integers keep theirs.

    Returns:
        Whether there were any.
    """
    names, freed = schema(), set[int]()
    for graph in model.subgraphs:
        for operator in list(graph.operators):
            kind = code_of(model.operatorCodes[operator.opcodeIndex])
            if kind != names.BuiltinOperator.DEQUANTIZE:
                continue
            stored, real = (graph.tensors[ends[0]] for ends in (operator.inputs, operator.outputs))
            data = model.buffers[stored.buffer].data
            if stored.type != names.TensorType.INT8 or data is None or not _by_channel(stored):
                continue
            real.buffer = len(model.buffers)
            model.buffers.append(names.BufferT())
            model.buffers[-1].data = _floats(stored, np.asarray(data, np.uint8)).view(np.uint8)
            graph.operators.remove(operator)
            freed.add(stored.buffer)
    for buffer in freed - _read_buffers(model):
        model.buffers[buffer].data = None
    return bool(freed)


def _read_buffers(model: Any) -> set[int]:
    """Return the buffers that operators read: tensors of the same bytes may share one."""
    return {
        graph.tensors[index].buffer
        for graph in model.subgraphs
        for operator in graph.operators
        if operator.inputs is not None
        for index in operator.inputs
        if index >= 0
    }


def _by_channel(stored: Any) -> bool:
    return stored.quantization is not None and np.size(stored.quantization.scale) > 1


def _floats(stored: Any, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the numbers that a tensor's integers stand for, flat."""
    grid, shape = stored.quantization, tuple(stored.shape)
    form = [1] * len(shape)
    form[grid.quantizedDimension] = -1
    scale, zero = (np.reshape(each, form) for each in (grid.scale, grid.zeroPoint))
    integers = data.view(np.int8)[: math.prod(shape)].reshape(shape)
    floats: NDArray[np.float32] = ((integers.astype(np.float32) - zero) * scale).astype(np.float32)
    return floats.ravel()

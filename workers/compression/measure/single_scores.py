"""Outputs with one score for each target: yes or no, or a number.

A network of two classes often gives one score, and one of labels that do not exclude each other one
for each label. Integer targets are then yes (1) or no (0), or, where there are others, numbers.
"""

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from workers.compression.graph.rewrites.functions import inline_functions

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})

_CARRIES = frozenset(
    {"Cast", "Clip", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape",
     "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip
"""Operators behind which a probability is still one."""

_PROBABILITIES = frozenset({"Sigmoid", "HardSigmoid", "Softmax"})


def has_one_for_each(output: ir.Value, targets: Sequence[int]) -> bool:
    """Return whether an output of floats declares as many numbers a sample as there are targets.

    Args:
        output: the judged output, ``[samples, …]``.
        targets: the shape of the targets, ``[samples, …]``.
    """
    if output.dtype not in _FLOATS or output.shape is None:
        return False
    sizes = list(output.shape)[1:]
    return all(isinstance(size, int) for size in sizes) and prod(sizes) == prod(targets[1:])


def threshold(model: ir.Model, name: str) -> float:
    """Return the score above which the answer is yes: 0.5 for probabilities, 0 for logits.

    Args:
        model: the judged graph; not changed.
        name: the judged output.
    """
    if model.functions:
        model = model.clone()
        inline_functions(model)
    output = next(value for value in model.graph.outputs if value.name == name)
    node = output.producer()
    while node is not None and node.op_type in _CARRIES and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return 0.5 if node is not None and node.op_type in _PROBABILITIES else 0.0

"""Outputs with one score for each target: yes or no, or a number.

A network of two classes often gives one score, and one of labels that do not exclude each other one
for each label. Integer targets are then yes (1) or no (0), or, where there are others, numbers.

Whether such a score is a probability or a logit is told by the graph, once, for the metric and for
the training alike: values for some samples say little, as logits may all lie between 0 and 1.
"""

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from workers.compression.graph.rewrites.functions import inline_functions
from workers.compression.graph.value_range import Range, value_range

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})

YES = {True: 0.5, False: 0.0}
"""The score above which the answer is yes, by whether scores are probabilities."""


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


def are_probabilities(model: ir.Model, name: str) -> bool:
    """Return whether all values of an output lie between 0 and 1, as the graph computes them.

    Args:
        model: the judged graph; not changed.
        name: the judged output.
    """
    if model.functions:
        model = model.clone()
        inline_functions(model)
    output = next(value for value in model.graph.outputs if value.name == name)
    return value_range(output).within(Range(0.0, 1.0))

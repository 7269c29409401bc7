"""Biases of convolutions as steps of their own, for OpenVINO.

Where a graph rounds what a convolution gives, makes rows of it and puts others beside them, as
vision transformers do with patches and a class token, OpenVINO adds the bias of the first channel
to all.
"""

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor, graph_of

_BIAS = 2


def add_biases_apart(model: ir.Model) -> bool:
    """Add what is a bias of a convolution after it, in place, in a graph that rounds.

    Returns:
        Whether there was any.
    """
    nodes = list(model.graph.all_nodes())
    if not any(node.op_type == "QuantizeLinear" for node in nodes):
        return False
    edit, added = Editor(model), False
    for node in nodes:
        if node.op_type in {"Conv", "ConvTranspose"} and len(node.inputs) > _BIAS:
            bias, rank = node.inputs[_BIAS], _rank(node.inputs[1])
            if bias is not None and rank is not None:
                _add(edit, node, bias, rank)
                added = True
    return added


def _add(edit: Editor, node: ir.Node, bias: ir.Value, rank: int) -> None:
    shape = edit.constant(f"{bias.name}_shape", np.array([1, -1, *[1] * (rank - 2)]))
    wide = edit.node("Reshape", [bias, shape], f"{bias.name}_wide")
    node.resize_inputs(_BIAS)
    graph_of(node).insert_before(node, [wide])
    given = node.outputs[0]
    edit.behind(given, edit.node("Add", [given, wide.outputs[0]], f"{given.name}_added"))


def _rank(weight: ir.Value | None) -> int | None:
    """Return the rank of a weight: its own, or that of the integers it is made of."""
    while weight is not None and weight.shape is None:
        producer = weight.producer()
        weight = producer.inputs[0] if producer is not None and producer.inputs else None
    return None if weight is None or weight.shape is None else weight.shape.rank()

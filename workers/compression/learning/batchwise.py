"""Batch normalisation in training mode (Ioffe & Szegedy 2015)."""

from collections.abc import Collection

import onnx_ir as ir

from workers.compression.graph.editor import Editor


def by_batch(model: ir.Model, names: Collection[str], momentum: float) -> ir.Model:
    """Return a copy of a graph whose normalisations use the statistics of the batch.

    The values ``<output>_mean`` and ``<output>_variance``, ``[C]``, are the updated running
    statistics.

    Args:
        model: the graph; not changed.
        names: outputs of the normalisations to change.
        momentum: the weight of the old running statistics in the updated ones; 0 replaces them by
            those of the batch.
    """
    copy = model.clone()
    edit = Editor(copy)
    for norm in [node for node in copy.graph if node.op_type == "BatchNormalization"]:
        name = str(norm.outputs[0].name)
        if name not in names:
            continue
        inputs = [value for value in norm.inputs if value is not None]
        epsilon = norm.attributes.get_float("epsilon", 1e-5)
        learning = edit.node(
            "BatchNormalization", inputs, name, f"{name}_mean", f"{name}_variance",
            training_mode=1, momentum=momentum, epsilon=epsilon,
        )  # fmt: skip
        edit.replace(norm, [learning])
    return copy

"""Verifies a cut against the masked graph, in which removed channels contribute zero."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression import faults
from workers.compression.graph import equivalence, runtime
from workers.compression.graph.editor import Editor
from workers.compression.graph.runtime import Arrays
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Analysis, Removed


def mask(model: ir.Model, analysis: Analysis, removed: Removed) -> ir.Model:
    """Multiply removed channels by 0 wherever a node sums over them.

    Args:
        model: a copy of the graph that was analysed; changed in place.
        analysis: the coupled units of the graph.
        removed: the units whose contribution becomes zero.

    Returns:
        The model.
    """
    editor = Editor(model)
    nodes = {node.name: node for node in model.graph}
    for site in analysis.sums:
        node = nodes[site.node]
        data = node.inputs[site.slot]
        assert data is not None
        kept = analysis.kept(str(data.name), site.axis, removed)
        if kept is None or kept.all():
            continue
        shape = [1] * len(analysis.shapes[str(data.name)])
        shape[site.axis] = len(kept)
        dtype = data.dtype.numpy() if data.dtype is not None else np.float32
        factor = editor.constant(f"{node.name}_kept", kept.astype(dtype).reshape(shape))
        masked = editor.node("Mul", [data, factor], f"{node.name}_masked")
        editor.graph.insert_before(node, masked)
        node.replace_input_with(site.slot, masked.outputs[0])
    return model


def difference(
    model: ir.Model,
    analysis: Analysis,
    removed: Removed,
    feeds: Mapping[str, NDArray[Any]],
) -> str | None:
    """Describe how the outputs of cut and masked graph differ; None if they agree."""
    expected = _run(mask(model.clone(), analysis, removed), feeds)
    try:
        actual = _run(cut(model.clone(), analysis, removed), feeds)
    except Exception as error:  # noqa: BLE001 (onnxruntime has one class for each status code)
        return f"the cut graph does not run: {faults.runtime_words(error)}"
    return equivalence.difference(expected, actual)


def _run(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    return runtime.run(runtime.session_of(model), feeds)

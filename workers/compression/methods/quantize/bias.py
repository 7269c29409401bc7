"""Bias correction: a quantized layer's outputs are moved by their mean error.

Rounding and clipping change the mean of a layer's outputs, each channel by an amount of its own.
Subtracted from the bias, that amount is gone: Nagel et al., "Data-free quantization through weight
equalization and bias correction" (2019), section 4.2, with means that are measured on data. Each
layer is given the values of the float graph, so that its own error alone is corrected.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.graph.editor import Editor
from workers.compression.looking.probe import AXES_AS_INPUT, Probe, runs, show
from workers.compression.methods.quantize import integers
from workers.compression.methods.quantize.integers import Floats, Grid
from workers.compression.methods.quantize.pairs import Site, stored_grid
from workers.compression.samples.context import Samples


def mean_errors(
    model: ir.Model,
    sites: Sequence[Site],
    grids: Mapping[str, Grid],
    parameters: Quantize,
    rounded: Mapping[str, Floats],
    samples: Samples,
    threads: int,
) -> dict[str, Floats]:
    """Return the mean error of each layer that has a bias and computes in integers.

    Args:
        model: the graph in float; not changed.
        sites: the layers of this graph.
        grids: the grids of values, by name.
        parameters: the types of weights and activations.
        rounded: weights that are not rounded to nearest, by the layer's name.
        samples: the samples that means are taken over, in one pass.
        threads: the number of threads.

    Returns:
        For each layer, by its node's name, the error of each channel, ``[channels]``.
    """
    chosen = [site for site in sites if _has_bias(site) and str(_data(site).name) in grids]
    if not chosen or model.graph.opset_imports.get("", 0) < AXES_AS_INPUT:
        return {}
    sums, count = [np.zeros(1, np.float32)] * len(chosen), 0
    for errors in runs(
        model, _errors(chosen, grids, parameters, rounded), samples, threads, lambda _: None
    ):
        sums = [total + error for total, error in zip(sums, errors, strict=True)]
        count += 1
    means = {
        str(site.layer.node.name): np.asarray(total / count, np.float32)
        for site, total in zip(chosen, sums, strict=True)
    }
    return {name: mean for name, mean in means.items() if np.isfinite(mean).all()}


def _has_bias(site: Site) -> bool:
    return site.data is not None and site.layer.bias is not None


def _data(site: Site) -> ir.Value:
    assert site.data is not None, "the layer computes in integers"
    return site.data


def _errors(
    sites: Sequence[Site],
    grids: Mapping[str, Grid],
    parameters: Quantize,
    rounded: Mapping[str, Floats],
) -> Probe:
    """Look at the mean error of each channel of each layer, ``[channels]``."""

    def probe(edit: Editor) -> list[str]:
        nodes = {str(node.name): node for node in edit.graph}
        outputs = []
        for site in sites:
            name = str(site.layer.node.name)
            weights = rounded.get(name)
            if weights is None:
                weights = _nearest_weights(site, parameters, grids)
            outputs.append(_error(edit, nodes[name], site, grids, weights))
        return outputs

    return probe


def _nearest_weights(site: Site, parameters: Quantize, grids: Mapping[str, Grid]) -> Floats:
    """Return a layer's weights as they are stored where each is rounded to nearest."""
    grid = stored_grid(site, parameters, grids)
    return integers.dequantize(integers.quantize(site.layer.weights, grid), grid)


def _error(
    edit: Editor, node: ir.Node, site: Site, grids: Mapping[str, Grid], weights: Floats
) -> str:
    """Add the layer in integers beside the layer in float; return the name of the mean error."""
    data, layer, name = node.inputs[0], site.layer, str(node.name)
    assert data is not None, "a layer reads data"
    inputs = [
        _rounded(edit, data, grids[str(_data(site).name)]),
        edit.constant(f"{name}_rounded", weights),
        *node.inputs[2:3],
    ]
    twin = edit.node(node.op_type, [v for v in inputs if v is not None], f"{name}_twin")
    for attribute in node.attributes.values():
        twin.attributes.add(attribute)
    error = edit.node("Sub", [twin.outputs[0], node.outputs[0]], f"{name}_error")
    axes = edit.constant(f"{name}_axes", np.array([0, *range(2, layer.weights.ndim)]))
    edit.graph.extend([twin, error])
    return show(edit, edit.node("ReduceMean", [error.outputs[0], axes], f"{name}_mean", keepdims=0))


def _rounded(edit: Editor, value: ir.Value, grid: Grid) -> ir.Value:
    """Add the rounding of a value to its grid, in float."""
    low, high = grid.bounds
    scale = edit.constant(f"{value.name}_step", grid.scale)
    ends = [edit.constant(f"{value.name}_end", np.array(end, np.float32)) for end in (low, high)]
    steps = [edit.node("Clip", [value, *ends], f"{value.name}_cut")]
    for operator in ("Div", "Round", "Mul"):
        inputs = [steps[-1].outputs[0], *([] if operator == "Round" else [scale])]
        steps.append(edit.node(operator, inputs, f"{value.name}_{operator}"))
    edit.graph.extend(steps)
    return steps[-1].outputs[0]

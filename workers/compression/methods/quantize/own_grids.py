"""Splits convolutions whose channels differ so much in range that one grid is none for some.

A detector's last convolution gives boxes in pixels beside scores from 0 to 1. With one scale for
all channels, a score of 0.5 beside a box of 600 pixels is rounded to 0. The convolution is split by
channels of like range, each part with a grid of its own, and the parts are joined in float. The
outputs in float stay the same. Which channels belong together is told by their ranges on data.

Convolutions that another layer follows, however many operators later, are left whole: their outputs
flow on as integers, and what follows weighs channels together. There smoothing is the remedy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.steps import Quantize
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.operators import is_layer
from workers.compression.looking.probe import AXES_AS_INPUT, Probe, runs, show
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.pairs import Site, site_of
from workers.compression.samples.context import Samples

_BITS = 3
"""The bits of resolution that a channel may lose to a channel of greater range in its group."""

_GROUPS = 3
"""The greatest number of groups: the last one holds all smaller channels."""


@dataclass(frozen=True)
class Split:
    """A graph of the same outputs, and the convolutions of it that were split."""

    model: ir.Model
    nodes: list[str]
    """By the names that they had."""


def with_own_grids(model: ir.Model, parameters: Quantize, samples: Samples, threads: int) -> Split:
    """Split the convolutions at the graph's end whose channels differ in range.

    Args:
        model: the graph in float; not changed.
        parameters: the layers to quantize.
        samples: the samples that ranges are observed on, in one pass.
        threads: the number of threads.
    """
    sites = [site_of(layer, parameters) for layer in select(model, parameters)[0]]
    followed = _followed(model.graph)
    names = [str(s.layer.node.name) for s in sites if _is_last(s, followed)]
    if not names or model.graph.opset_imports.get("", 0) < AXES_AS_INPUT:
        return Split(model, [])
    magnitudes = [np.zeros(1)] * len(names)
    for batch in runs(model, _largest(names), samples, threads, lambda _: None):
        pairs = zip(magnitudes, batch, strict=True)
        magnitudes = [np.fmax(before, found) for before, found in pairs]
    grouped = {
        name: groups
        for name, magnitude in zip(names, magnitudes, strict=True)
        if len(groups := groups_of(magnitude)) > 1
    }
    if not grouped:
        return Split(model, [])
    copy = model.clone()
    edit = Editor(copy)
    for node in list(copy.graph):
        if str(node.name) in grouped:
            _split(edit, node, grouped[str(node.name)])
    edit.remove_unused()
    return Split(copy, list(grouped))


def groups_of(magnitudes: NDArray[np.floating]) -> list[NDArray[np.int64]]:
    """Group channels so that none loses many bits to another one of its group.

    Args:
        magnitudes: the greatest magnitude of each channel, ``[channels]``.

    Returns:
        The indices of each group in ascending order, the group of the greatest range first. A
        channel that is always zero fits anywhere: it is in the first group.
    """
    finite = np.where(np.isfinite(magnitudes), magnitudes, 0.0).astype(np.float64)
    largest = finite.max(initial=0.0)
    bits = np.zeros(len(finite))
    alive = finite > 0
    bits[alive] = np.log2(largest / finite[alive])
    group = np.minimum(bits // _BITS, _GROUPS - 1)
    found = (np.flatnonzero(group == index) for index in range(_GROUPS))
    return [indices for indices in found if len(indices)]


def parts_of(name: str, nodes: Mapping[str, ir.Node]) -> list[ir.Node]:
    """Return the parts of a convolution that was split, in order; none if it was not.

    Args:
        name: the name of the convolution.
        nodes: the nodes of the graph with the parts, by name.
    """
    if name in nodes or _joined(name) not in nodes:
        return []
    names = (_part(name, index) for index in range(_GROUPS))
    return [nodes[part] for part in names if part in nodes]


def order_of(name: str, model: ir.Model) -> NDArray[np.int64] | None:
    """Return where each channel of a split convolution is in its joined parts; None: in order."""
    places = model.graph.initializers.get(_order(name))
    return None if places is None else constant(places)


def _part(name: str, index: int) -> str:
    return f"{name}_part{index}"


def _joined(name: str) -> str:
    return f"{name}_joined"


def _order(name: str) -> str:
    return f"{name}_order"


def _followed(graph: ir.Graph) -> set[ir.Value | None]:
    """Return the values that a layer of the graph depends on, or a node with graphs of its own."""
    followed: set[ir.Value | None] = set()
    for node in reversed(graph):
        inner = any(user.graph is not graph for out in node.outputs for user in out.consumers())
        if inner or is_layer(node) or not followed.isdisjoint(node.outputs):
            followed.update(node.inputs)
        if inner:
            followed.update(node.outputs)
    return followed


def _is_last(site: Site, followed: set[ir.Value | None]) -> bool:
    """Return whether a site is a convolution of one group that no other layer follows."""
    node = site.layer.node
    return (
        site.tail is not None
        and node.op_type == "Conv"
        and node.attributes.get_int("group", 1) == 1
        and node.outputs[0] not in followed
        and len(site.layer.weight.uses()) == 1
    )


def _largest(names: list[str]) -> Probe:
    """Look at the greatest magnitude of each channel of convolutions, ``[channels]``."""

    def probe(edit: Editor) -> list[str]:
        nodes = {str(node.name): node for node in edit.graph}
        outputs = []
        for name in names:
            value = nodes[name].outputs[0]
            weight = nodes[name].inputs[1]
            assert weight is not None, "a convolution has a weight"
            axes = edit.constant(f"{name}_axes", np.array([0, *range(2, constant(weight).ndim)]))
            magnitude = edit.node("Abs", [value], f"{name}_magnitude")
            edit.graph.append(magnitude)
            inputs = [magnitude.outputs[0], axes]
            outputs.append(show(edit, edit.node("ReduceMax", inputs, f"{name}_max", keepdims=0)))
        return outputs

    return probe


def _split(edit: Editor, node: ir.Node, groups: list[NDArray[np.int64]]) -> None:
    """Replace a convolution by one for each group of channels; their outputs are joined."""
    data, weight, *rest = node.inputs
    assert data is not None
    assert weight is not None
    bias = rest[0] if rest else None
    name = str(node.name)
    parts = []
    for index, channels in enumerate(groups):
        inputs = [data, edit.constant(_part(str(weight.name), index), constant(weight)[channels])]
        if bias is not None:
            inputs.append(edit.constant(_part(str(bias.name), index), constant(bias)[channels]))
        part = edit.node("Conv", inputs, _part(name, index))
        for attribute in node.attributes.values():
            part.attributes.add(attribute)
        part.outputs[0].type = node.outputs[0].type
        parts.append(part)
    steps = [
        *parts, edit.node("Concat", [p.outputs[0] for p in parts], _joined(name), axis=1)
    ]  # fmt: skip
    order = np.concatenate(groups)
    if (np.diff(order) != 1).any():
        places = edit.constant(_order(name), np.argsort(order))
        joined = steps[-1].outputs[0]
        joined.type = node.outputs[0].type
        steps.append(edit.node("Gather", [joined, places], f"{node.name}_ordered", axis=1))
    edit.replace(node, steps)

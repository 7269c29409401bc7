"""Unstructured, n:m and block pruning of a graph: weights become zero, shapes stay."""

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir
import torch

from app.domain.reports import LayerChange
from app.domain.steps import Prune, Skipped
from app.domain.steps.base import matches
from workers.compression.executor import Executor
from workers.compression.graph import stats
from workers.compression.graph.editor import constant
from workers.compression.graph.forms import stored_bytes
from workers.compression.graph.narrow import stored_as
from workers.compression.graph.operators import (
    RECURRENT,
    channel_axis,
    holds_unknown_weights,
    input_axis,
    is_layer,
    operand,
)
from workers.compression.learning.recovery import Demands, recover
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune import obc, schedule
from workers.compression.methods.prune.criteria import (
    CRITERIA,
    WeightSources,
    factors_of,
    score_weights,
)
from workers.compression.methods.prune.groups import INSIDE
from workers.compression.methods.prune.moments import Rows
from workers.compression.methods.prune.reconstruct import Choose, reconstruct_sparse
from workers.compression.methods.prune.zeros import Array, Mask, masks
from workers.compression.progress import Advance, span
from workers.compression.samples.context import Context

_FIRST = 0.2
"""The share of the progress before training."""

_ON_THE_LEFT = "its weight is the left operand, of which single weights are not pruned"


@dataclass(frozen=True)
class SparseLayer:
    """A node whose weight is pruned."""

    node: ir.Node
    value: ir.Value
    order: tuple[int, ...]
    """The weight's axes in the order outputs, inputs, then kernel or directions."""

    @property
    def name(self) -> str:
        """The weight's name."""
        return str(self.value.name)

    def view(self, array: np.ndarray) -> np.ndarray:
        """Return an array as ``[outputs, inputs, kernel…]``."""
        return array.transpose(self.order)

    def back(self, array: np.ndarray) -> np.ndarray:
        """Return an array with its axes in the order that the graph has."""
        return np.ascontiguousarray(array.transpose(np.argsort(self.order)))


def prune_weights(
    model: ir.Model, parameters: Prune, context: Context, advance: Advance
) -> Outcome:
    """Set weights to zero, at once or while training.

    Args:
        model: the graph; changed in place.
        parameters: the criterion, the granularity and the sparsity.
        context: data, seed, threads.
        advance: called with the fraction done.

    Returns:
        The pruned graph. If no layer has a weight to prune: the graph as it is, not trained.
    """
    layers, skipped = _select(model, parameters)
    if not layers:
        return Outcome(model, skipped=skipped)
    shapes = {layer.name: constant(layer.value).shape for layer in layers}
    sources = WeightSources(model, shapes, context, span(advance, 0, _FIRST))
    factors = factors_of(parameters.criterion, sources)
    recovery, learning = parameters.recover, span(advance, _FIRST, 1)
    if parameters.schedule == "one_shot":
        _zero(model, layers, factors, parameters, context, advance)
        if recovery is not None:
            model = recover(model, recovery, context, learning)
    elif recovery is not None:
        demands = Demands(_Gradual(layers, factors, parameters), settled=parameters.end)
        model = recover(model, recovery, context, learning, demands)
    return Outcome(model, [_change(model, layer) for layer in layers], skipped)


def _zero(
    model: ir.Model,
    layers: list[SparseLayer],
    factors: dict[str, Array],
    parameters: Prune,
    context: Context,
    advance: Advance,
) -> None:
    """Set weights to zero; with data, refit the other weights."""
    weights = {layer.name: constant(layer.value).astype(np.float32) for layer in layers}
    share = schedule.target(parameters)
    original = model.clone()
    _write(layers, _choose(layers, weights, factors, parameters, share))
    if parameters.reconstruct and context.train:
        macs = stats.macs_of_one(original, context.train.first_run(), context.train.layout.size)
        eliminates = CRITERIA[parameters.criterion].eliminates
        choose = _by_elimination(layers, parameters) if eliminates else None
        reconstruct_sparse(original, model, context, macs, span(advance, 0, _FIRST), choose)


def _by_elimination(layers: list[SparseLayer], parameters: Prune) -> Choose:
    """Return a function that keeps as many weights of a layer as before, chosen by ``obc``."""
    layers_by_node = {str(layer.node.name): layer for layer in layers}

    def choose(node: ir.Node, best: Rows, second: Rows, kept: Mask) -> tuple[Mask, Rows]:
        if str(node.name) not in layers_by_node:
            return kept, best * kept
        kernel = (
            constant(layers_by_node[str(node.name)].value).shape[2:]
            if node.op_type == "Conv"
            else ()
        )
        shape = (best.shape[1], -1, prod(kernel))
        stays, adjusted = obc.choose(
            best.T.reshape(shape), second, kept.T.reshape(shape), parameters
        )
        return stays.reshape(best.T.shape).T, adjusted.reshape(best.T.shape).T

    return choose


class _Gradual:
    """A training constraint: the weights' share of zeros grows by the schedule.

    Before the first step the training tries learning rates. The rate must suit the final sparsity,
    so at progress 0 the weights have as many zeros as in the end.
    """

    def __init__(
        self, layers: list[SparseLayer], factors: dict[str, Array], parameters: Prune
    ) -> None:
        self.layers, self.factors, self.parameters = layers, factors, parameters
        self.part = 0
        self.kept: dict[str, torch.Tensor] = {}

    def __call__(self, executor: Executor, done: float) -> None:
        due = schedule.part_at(self.parameters, done) if done else self.parameters.iterations
        if due != self.part:
            self.part = due
            weights = {
                layer.name: executor.weight(layer.name).detach().float().cpu().numpy()
                for layer in self.layers
            }
            share = schedule.share_of(self.parameters, due)
            chosen = _choose(self.layers, weights, self.factors, self.parameters, share)
            self.kept = {
                name: torch.from_numpy(mask).to(executor.weight(name).device)
                for name, mask in chosen.items()
            }
        for name, mask in self.kept.items():
            executor.weight(name).mul_(mask)


def _select(model: ir.Model, parameters: Prune) -> tuple[list[SparseLayer], list[Skipped]]:
    layers: dict[str, SparseLayer] = {}
    skipped: dict[Skipped, None] = {}
    for node in model.graph.all_nodes():
        if is_layer(node) and _stored(operand(node, 0)):
            skipped[Skipped(node=str(node.name), reason=_ON_THE_LEFT)] = None
        if holds_unknown_weights(node):
            left = f"single weights of {node.op_type} are not pruned"
            skipped[Skipped(node=str(node.name), reason=left)] = None
        for value in _weights(node):
            nested = None if node.graph is model.graph else INSIDE
            if (reason := nested or _unfit(node, value, parameters)) is not None:
                skipped[Skipped(node=str(node.name), reason=reason)] = None
            else:
                layers[str(value.name)] = SparseLayer(node, value, _order(node, value))
    return list(layers.values()), list(skipped)


def _weights(node: ir.Node) -> list[ir.Value]:
    """Return a layer's weights; a recurrent node has one for its input and one for its state."""
    slots = (1, 2) if node.op_type in RECURRENT else (1,) if is_layer(node) else ()
    values = [operand(node, slot) for slot in slots]
    return [value for value in values if value is not None and _stored(value)]


def _stored(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and value.is_initializer()


def _order(node: ir.Node, value: ir.Value) -> tuple[int, ...]:
    rank = constant(value).ndim
    if node.op_type in RECURRENT:
        return (1, 2, 0)
    outputs = (channel_axis(node) or 0) % rank
    inputs = (input_axis(node) or 0) % rank
    return (outputs, inputs, *(axis for axis in range(rank) if axis not in (outputs, inputs)))


def _unfit(node: ir.Node, value: ir.Value, parameters: Prune) -> str | None:
    """Say why a layer is left alone."""
    if matches(str(node.name), parameters.ignore):
        return "named in 'ignore'"
    array = constant(value)
    if array.ndim < 2 or array.dtype.kind != "f" or not array.size:
        return "its weight is no matrix of floats"
    inputs = array.shape[_order(node, value)[1]]
    if parameters.granularity == "n:m" and inputs < parameters.m:
        return f"it has {inputs} inputs, fewer than the {parameters.m} of a group"
    return None


def _choose(
    layers: list[SparseLayer],
    weights: dict[str, Array],
    factors: dict[str, Array],
    parameters: Prune,
    sparsity: float,
) -> dict[str, Mask]:
    """Return the mask of each weight, with its axes in the order that the graph has."""
    scores = {
        layer.name: score_weights(
            parameters.criterion,
            layer.view(weights[layer.name]),
            layer.view(factors[layer.name]) if layer.name in factors else None,
        )
        for layer in layers
    }
    kept = masks(scores, parameters, sparsity)
    return {layer.name: layer.back(kept[layer.name]) for layer in layers}


def _write(layers: list[SparseLayer], kept: dict[str, Mask]) -> None:
    for layer in layers:
        array = constant(layer.value)
        cut = (array * kept[layer.name]).astype(array.dtype)
        layer.value.const_value = ir.Tensor(cut, name=layer.name)


def _change(model: ir.Model, layer: SparseLayer) -> LayerChange:
    array = constant(layer.value)
    kept = array.astype(stored_as(model, array))
    zero = 1 - np.count_nonzero(array) / max(array.size, 1)
    kind = "recurrent weights" if operand(layer.node, 2) is layer.value else "weights"
    return LayerChange(
        node=str(layer.node.name),
        operator=layer.node.op_type,
        change=f"{zero:.0%} of its {kind} are zero",
        bytes_before=kept.nbytes,
        bytes_after=stored_bytes(kept),
    )

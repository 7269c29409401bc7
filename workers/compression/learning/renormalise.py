"""Unfolds batch normalisation, which an exporter folded into convolutions, for a training.

A graph in normal form has each BatchNormalization folded into the convolution before it. Without
batch normalisation (Ioffe & Szegedy 2015) a network is harder to train and less regularised. Here
it is inserted again so that it changes nothing at first, with measured statistics, and folded
again after the training.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workers.compression.executor import Executor, build
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.rewrites.batchnorm import (
    affine,
    array_of,
    convolution_before,
    is_constant,
)
from workers.compression.learning.batchwise import by_batch
from workers.compression.learning.feed import Feed, Outputs

LEAST_RUN = 16
"""The least samples of a run with useful statistics."""

_MEASURED_SAMPLES = 2048
_EPSILON = 1e-5
_LEAST_VARIANCE = 1e-10
"""A channel with less variance is constant, and is not scaled."""
_KEPT = 0.9
"""The momentum of the running statistics."""
_NOT_BEFORE = frozenset(
    {"BatchNormalization", "Flatten", "GroupNormalization", "InstanceNormalization",
     "LayerNormalization", "Reshape", "Transpose"}
)  # fmt: skip
"""Operators after a convolution that show that no normalisation was folded into it: it is a head,
an embedding of patches, or is normalised anyway."""


class Renormalised:
    """A copy of a graph with a BatchNormalization after each convolution that may have had one.

    Without gradients it computes what the graph computes. While gradients are recorded it
    normalises by the batch and updates the running statistics.

    Attributes:
        model: the copy.
        statistics: the initializers that hold running means and variances.
    """

    model: ir.Model
    statistics: list[str]

    def __init__(self, model: ir.Model, feed: Feed, seed: int) -> None:
        """Copy a graph and insert the normalisations.

        Args:
            model: in normal form, with at least one of ``candidates``; not changed.
            feed: the samples; statistics are measured on some that are drawn from them.
            seed: seed of the draw.
        """
        self.model = model.clone()
        convolutions = candidates(self.model)
        names = [str(conv.outputs[0].name) for conv in convolutions]
        moments = _measured(self.model, names, feed, seed)
        edit = Editor(self.model)
        self._norms = [
            _insert(edit, conv, *moments[name])
            for conv, name in zip(convolutions, names, strict=True)
            if name in moments
        ]
        self.statistics = [str(v.name) for norm in self._norms for v in norm.inputs[3:5] if v]
        self._before = {name: v.const_value for name, v in self.model.graph.initializers.items()}

    def learning(self, executor: Executor, device: str) -> "Learning":
        """Return a callable that runs the copy, in training and in evaluation.

        Args:
            executor: made from the copy, on ``device``; its parameters are shared.
            device: as torch names it.
        """
        norms = {str(norm.outputs[0].name): norm for norm in self._norms}
        following = {
            f"{name}_{kind}": str(statistic.name)
            for name, norm in norms.items()
            for kind, statistic in zip(("mean", "variance"), norm.inputs[3:5], strict=True)
            if statistic is not None
        }
        copy = by_batch(self.model, norms, _KEPT)
        outputs = [str(value.name) for value in copy.graph.outputs]
        batched = build(copy, outputs=[*outputs, *following]).to(device)
        for name, attribute in batched.names.items():
            setattr(batched, attribute, executor.weight(name))
        return Learning(executor, batched, following)

    def fold(self, model: ir.Model) -> None:
        """Write the learned weights of the copy, folded, into the graph; unchanged weights stay.

        Args:
            model: the graph that the copy was made from; cut where the copy was cut.
        """
        initializers = self.model.graph.initializers
        changed = {
            name
            for name, value in self._before.items()
            if name in initializers and initializers[name].const_value is not value
        }
        folded: dict[str, NDArray[np.floating]] = {
            name: constant(initializers[name]) for name in changed
        }
        for norm in self._norms:
            if norm.graph is None:
                continue  # it was in a block that was left out
            conv = convolution_before(norm)
            assert conv is not None
            names = [str(value.name) for value in (*conv.inputs[1:], *norm.inputs[1:]) if value]
            if changed.isdisjoint(names):
                continue
            factor, shift = affine(norm)
            weight, bias = (array_of(value) for value in conv.inputs[1:3])
            folded[names[0]] = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
            folded[names[1]] = bias * factor + shift
        for name, array in folded.items():
            if name in model.graph.initializers:
                tensor = ir.Tensor(array.astype(np.float32), name=name)
                model.graph.initializers[name].const_value = tensor


class Learning:
    """Runs a graph; its normalisations use the batch only while gradients are recorded."""

    def __init__(
        self, executor: Executor, batched: nn.Module, following: Mapping[str, str]
    ) -> None:
        self._executor, self._batched, self._following = executor, batched, following

    def __call__(self, feeds: Mapping[str, Tensor]) -> Outputs:
        """Return the outputs; statistics are changed in place.

        A small run, such as the last one of an epoch, is normalised by the running statistics.
        """
        too_few = any(not value.ndim or len(value) < LEAST_RUN for value in feeds.values())
        if too_few or not torch.is_grad_enabled():
            return self._executor(feeds)  # type: ignore[no-any-return]
        outputs: Outputs = self._batched(feeds)
        with torch.no_grad():
            for after, before in self._following.items():
                self._executor.weight(before).copy_(outputs.pop(after))
        return outputs


def candidates(model: ir.Model) -> list[ir.Node]:
    """Return the convolutions that a normalisation may have been folded into.

    Such a convolution has a bias, and float32 weights that no other node reads.
    """
    return [node for node in model.graph if node.op_type == "Conv" and _is_candidate(node)]


def _is_candidate(conv: ir.Node) -> bool:
    output = conv.outputs[0]
    weights = conv.inputs[1:]
    readers = {use.node.op_type for use in output.uses()}
    return (
        len(weights) == 2
        and not output.is_graph_output()
        and bool(readers)
        and readers.isdisjoint(_NOT_BEFORE)
        and all(
            value is not None
            and is_constant(value)
            and value.dtype == ir.DataType.FLOAT
            and len(value.uses()) == 1
            for value in weights
        )
    )


@torch.no_grad()
def _measured(
    model: ir.Model, names: list[str], feed: Feed, seed: int
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return mean and variance of each channel of values; those without extent are left out."""
    forward = build(model, outputs=names).to(feed.device)
    rows = feed.samples.draw(_MEASURED_SAMPLES, seed).indices
    count, sums, squares = 0, dict[str, Tensor](), dict[str, Tensor]()
    for part in feed.parts(rows):
        outputs = forward(feed.batch(part).feeds)
        count += len(part)
        for name, value in outputs.items():
            places = value[: len(part)].flatten(2)
            if places.shape[2] == 1:
                continue
            variance, mean = torch.var_mean(places.double(), (0, 2), correction=0)
            sums[name] = sums.get(name, torch.zeros_like(mean)) + mean * len(part)
            square = (variance + mean**2) * len(part)
            squares[name] = squares.get(name, torch.zeros_like(mean)) + square
    means = {name: total / count for name, total in sums.items()}
    variances = {name: squares[name] / count - mean**2 for name, mean in means.items()}
    return {
        name: (mean.cpu().numpy(), variances[name].clamp(min=0).cpu().numpy())
        for name, mean in means.items()
    }


def _insert(
    edit: Editor, conv: ir.Node, mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> ir.Node:
    """Insert a normalisation after a convolution, rescaled to outputs of variance 1."""
    dead = variance < _LEAST_VARIANCE
    deviation = np.where(dead, 1.0, np.sqrt(variance))
    for value in conv.inputs[1:3]:
        assert value is not None
        array = array_of(value)
        array /= deviation.reshape(-1, *[1] * (array.ndim - 1))
        value.const_value = ir.Tensor(array.astype(np.float32), name=value.name)
    spread = np.where(dead, variance, 1.0)
    vectors = {
        "scale": deviation * np.sqrt(spread + _EPSILON),
        "shift": mean,
        "mean": mean / deviation,
        "variance": spread,
    }
    output = conv.outputs[0]
    inputs = [edit.constant(f"{output.name}_{k}", v.astype(np.float32)) for k, v in vectors.items()]
    norm = edit.node(
        "BatchNormalization", [output, *inputs], f"{output.name}_normalised", epsilon=_EPSILON
    )
    edit.behind(output, norm)
    return norm

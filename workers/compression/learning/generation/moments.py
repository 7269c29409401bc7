"""What is expected of the values inside a graph when it reads real data.

A BatchNormalization gives each channel the mean and the deviation that its offset and its scale
say, for they are learned for data that is normalised (Ioffe & Szegedy 2015).
The uploaded graph has them, and the normal form gives the same value under the same name after they
were folded. Many exporters fold them first. Then each is expected to be about what it was before
its training, an offset of 0 and a scale of 1: what is learned is mostly less than that away. So
samples get the size that the network was made for, which nothing else says of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.graph.rewrites.batchnorm import array_of, is_constant
from workers.compression.learning.renormalise import candidates

_LEAST_SCALE = 0.1
"""Of a channel, relative to the median of its layer: a scale near 0 says that a channel is dead."""
_EPSILON = 1e-6


@dataclass(frozen=True)
class Moments:
    """Means and deviations ``[channels]`` of values ``[N, channels, …]``, by name."""

    expected: Mapping[str, tuple[Tensor, Tensor]]
    known: bool
    """Whether normalisations of the graph say so; else those are expected that were folded."""

    def loss(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return how far values are from what is expected; a mean over channels, then values.

        The squared differences of means and of deviations, in deviations (ZeroQ, Cai et al. 2020;
        DeepInversion, Yin et al. 2020).

        Args:
            values: those that are expected, ``[N, channels, …]``.
        """
        terms = []
        for name, (mean, deviation) in self.expected.items():
            given_mean, given = _moments(values[name])
            apart = ((given_mean - mean) / deviation).square()
            terms.append((apart + ((given - deviation) / deviation).square()).mean())
        return torch.stack(terms).mean() if terms else torch.zeros(())

    def to(self, device: str) -> "Moments":
        """Return the same on another device."""
        moved = {n: (mean.to(device), dev.to(device)) for n, (mean, dev) in self.expected.items()}
        return Moments(moved, self.known)


def moments_of(uploaded: ir.Model, normal: ir.Model) -> Moments:
    """Return what is expected of values of a graph in normal form.

    Args:
        uploaded: the graph with its normalisations; constants are initializers.
        normal: the graph to look at.
    """
    values = {str(value.name) for node in normal.graph for value in node.outputs}
    known = {}
    for node in uploaded.graph:
        name = str(node.outputs[0].name)
        if node.op_type != "BatchNormalization" or name not in values:
            continue
        if not all(value is not None and is_constant(value) for value in node.inputs[1:3]):
            continue
        scale, shift = (torch.from_numpy(array_of(value)).float() for value in node.inputs[1:3])
        deviation = scale.abs()
        usual = float(deviation.median())
        if usual > 0:
            known[name] = (shift, deviation.clamp_min(_LEAST_SCALE * usual))
    if known:
        return Moments(known, known=True)
    folded = {str(conv.outputs[0].name): _at_first(conv) for conv in candidates(normal)}
    return Moments(folded, known=False)


def _at_first(conv: ir.Node) -> tuple[Tensor, Tensor]:
    """Return offset and scale of a normalisation before its training."""
    bias = conv.inputs[2]
    assert bias is not None, "a normalisation was folded into it"
    channels = len(array_of(bias))
    return torch.zeros(channels), torch.ones(channels)


def _moments(value: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel of ``[N, channels, …]``."""
    places = value.float().movedim(1, 0).flatten(1)
    variance, mean = torch.var_mean(places, 1, correction=0)
    return mean, (variance + _EPSILON).sqrt()

"""What is known of the values inside a graph when it reads real data.

A BatchNormalization gives each channel the mean and the deviation that its offset and its scale
say, for they are learned for data that is normalised (Ioffe & Szegedy 2015).
The uploaded graph has them, and the normal form gives the same value under the same name after they
were folded. Many exporters fold them first. Then only this is left: a channel that an activation
follows both fires and rests, so that its mean lies within a deviation of 0.
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
_WITHIN = 1.0
"""Deviations that a mean may lie from 0 where nothing is known of it."""
_EPSILON = 1e-6


@dataclass(frozen=True)
class Moments:
    """Means and deviations ``[channels]`` of values ``[N, channels, …]``, by name."""

    known: Mapping[str, tuple[Tensor, Tensor]]
    """Of what normalisations gave."""
    folded: tuple[str, ...]
    """Values that a normalisation may have been folded into."""

    @property
    def names(self) -> list[str]:
        """The values that are looked at."""
        return [*self.known, *self.folded]

    def loss(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return how far values are from what is known of them; a mean over channels, then values.

        The squared differences of means and of deviations, in deviations (ZeroQ, Cai et al. 2020;
        DeepInversion, Yin et al. 2020). Of values of which nothing is known: what their means are
        further away from 0 than a deviation.

        Args:
            values: those in ``names``, ``[N, channels, …]``.
        """
        terms = []
        for name, (mean, deviation) in self.known.items():
            given_mean, given = _moments(values[name])
            apart = ((given_mean - mean) / deviation).square()
            terms.append((apart + ((given - deviation) / deviation).square()).mean())
        for name in self.folded:
            mean, deviation = _moments(values[name])
            terms.append((mean.abs() / deviation - _WITHIN).clamp_min(0).square().mean())
        return torch.stack(terms).mean() if terms else torch.zeros(())

    def to(self, device: str) -> "Moments":
        """Return the same on another device."""
        known = {n: (mean.to(device), dev.to(device)) for n, (mean, dev) in self.known.items()}
        return Moments(known, self.folded)


def moments_of(uploaded: ir.Model, normal: ir.Model) -> Moments:
    """Return what is known of values of a graph in normal form.

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
        return Moments(known, ())
    return Moments({}, tuple(str(conv.outputs[0].name) for conv in candidates(normal)))


def _moments(value: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel of ``[N, channels, …]``."""
    places = value.float().movedim(1, 0).flatten(1)
    variance, mean = torch.var_mean(places, 1, correction=0)
    return mean, (variance + _EPSILON).sqrt()

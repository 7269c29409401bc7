"""What makes a sample that was made up a useful one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.learning import losses
from workers.compression.learning.generation.moments import Moments
from workers.compression.samples.declared import sides

_SURE, _ALL_CLASSES, _SMOOTH = 1.0, 5.0, 0.05
"""Weights of the terms beside that of the moments, which counts once. The first two are those of
DAFL, but for its term of activations, in whose place moments stand."""


@dataclass(frozen=True)
class Objective:
    """The sum that made samples minimise.

    Attributes:
        moments: what is known of values inside the graph.
        scores: the output that holds class scores ``[N, C]``; None where none may.
        probabilities: whether these are probabilities.
    """

    moments: Moments
    scores: str | None
    probabilities: bool

    def loss(self, outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of a batch: the misfit, and how unlike neighbours in pictures are.

        Args:
            outputs: what the teacher gave, and the values that are looked at.
            inputs: what it was given, ``[N, …]`` of about mean 0 and variance 1.
        """
        loss = self.misfit(outputs)
        for value in inputs.values():
            loss = loss + _SMOOTH * roughness(value)
        return loss

    def misfit(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return how unlike real data the teacher finds a batch.

        The teacher is sure of each sample, and the batch has all of its classes alike (DAFL, Chen
        et al. 2019, one-hot loss and information entropy); values inside are as in real data (see
        ``moments``).
        """
        loss = self.moments.loss(outputs)
        if self.scores is not None:
            logits = losses.logits(outputs[self.scores], 1, probabilities=self.probabilities)
            loss = loss + _SURE * F.cross_entropy(logits, logits.argmax(1))
            shares = logits.softmax(1).mean(0)
            entropy = -(shares * shares.clamp_min(1e-12).log()).sum() / math.log(len(shares))
            loss = loss + _ALL_CLASSES * (1 - entropy)
        return loss


def roughness(value: Tensor) -> Tensor:
    """Return the mean squared difference of neighbours in pictures, 0 for all else.

    As the total variation of DeepInversion (Yin et al. 2020).
    """
    axes = sides(value.shape)
    if axes is None:
        return value.new_zeros(())
    return torch.stack([value.diff(dim=axis).square().mean() for axis in axes]).sum()


def scores_of(outputs: Mapping[str, Tensor], judged: str) -> str | None:
    """Return the output that may hold class scores ``[N, C]``: the judged one, or another."""
    for name in (judged, *outputs):
        value = outputs[name]
        if value.ndim == 2 and value.shape[1] > 1 and value.is_floating_point():
            return name
    return None


def are_probabilities(outputs: Mapping[str, Tensor], name: str | None) -> bool:
    """Return whether an output holds probabilities."""
    return name is not None and losses.are_probabilities(torch.as_tensor(outputs[name]), 1)

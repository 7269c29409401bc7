"""Random directions in the space of a graph's outputs.

The squared derivative of a weight along one is, on average over directions, the squared length of
the outputs' own derivative (Hutchinson's estimator). That stands for the loss where there are no
targets.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from workers.compression.learning import losses
from workers.compression.learning.feed import Outputs


def project(samples: Outputs, seed: int) -> Callable[[Outputs], Tensor]:
    """Return what projects outputs onto a new random direction at each call.

    A change of length 1 in all directions is the root of the mean squared change over the variance
    of each channel, a mean over outputs of floats. Probabilities are seen as logits, which have one
    unit for all classes: a sure answer has no slope, however near it is to another.

    Args:
        samples: outputs for some samples, whose variances are the unit.
        seed: of the directions.
    """
    random = torch.Generator(device="cpu").manual_seed(seed)
    axes = {
        name: losses.probabilities_axis(each)
        for name, each in samples.items()
        if each.is_floating_point()
    }

    def with_logits(outputs: Outputs) -> dict[str, Tensor]:
        return {
            name: outputs[name]
            if axis is None
            else losses.logits(outputs[name], axis, probabilities=True)
            for name, axis in axes.items()
        }

    scales = {
        name: losses.variances(each)
        if axes[name] is None
        else torch.tensor(losses.variance(each)).to(each)
        for name, each in with_logits(samples).items()
    }

    def along(outputs: Outputs) -> Tensor:
        parts = [
            (each / scales[name].sqrt() * torch.randn(each.shape, generator=random).to(each)).sum()
            / (each.numel() * len(scales)) ** 0.5
            for name, each in with_logits(outputs).items()
        ]
        return torch.stack(parts).sum()

    return along

"""Random directions in the space of a graph's outputs.

The squared derivative of such a projection by a weight is, on average over random directions, the
squared length of the derivative of the outputs (Hutchinson's estimator). It takes the place of the
gradient of the loss where there are no targets.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from workers.compression.learning import losses
from workers.compression.learning.feed import Outputs


def project(samples: Outputs, seed: int) -> Callable[[Outputs], Tensor]:
    """Return a function that projects outputs onto a new random direction at each call.

    Each channel is divided by its standard deviation, so that channels and outputs of any unit
    count alike. Probabilities are turned into logits first: a saturated softmax has no gradient.

    Args:
        samples: outputs for some samples; their variances give the scales.
        seed: seed of the random directions.
    """
    random = torch.Generator(device="cpu").manual_seed(seed)
    axes = {
        name: losses.probabilities_axis(output)
        for name, output in samples.items()
        if output.is_floating_point()
    }

    def with_logits(outputs: Outputs) -> dict[str, Tensor]:
        return {
            name: outputs[name]
            if axis is None
            else losses.logits(outputs[name], axis, probabilities=True)
            for name, axis in axes.items()
        }

    scales = {
        name: losses.variances(output)
        if axes[name] is None
        else torch.tensor(losses.variance(output)).to(output)
        for name, output in with_logits(samples).items()
    }

    def projected(outputs: Outputs) -> Tensor:
        parts = [
            (
                output
                / scales[name].sqrt()
                * torch.randn(output.shape, generator=random).to(output)
            ).sum()
            / (output.numel() * len(scales)) ** 0.5
            for name, output in with_logits(outputs).items()
        ]
        return torch.stack(parts).sum()

    return projected

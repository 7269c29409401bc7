"""How the learning rate goes over a training."""

import math

_WARM_UP = 0.05
"""Share of the steps."""
_LEAST = 0.01


def warm_up_cosine(step: int, total: int) -> float:
    """Return the learning rate of a step, as a fraction of its peak.

    Rises in a line over the first twentieth of the steps, then falls along a cosine (Loshchilov &
    Hutter 2017) to a hundredth.

    Args:
        step: from 0 to ``total`` - 1.
        total: steps of the training.
    """
    warm = max(1, round(total * _WARM_UP))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm + 1) / max(1, total - warm)
    return _LEAST + (1 - _LEAST) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

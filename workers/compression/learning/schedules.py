"""The schedule of the learning rate over a training."""

import math

_WARM_UP = 0.05
"""The share of the training in which the rate rises."""
_LEAST = 0.01


def warm_up_cosine(before: float, after: float) -> float:
    """Return the learning rate of a step, as a fraction of its peak.

    The rate rises linearly over the first twentieth of the training, then falls along a cosine
    (Loshchilov & Hutter 2017) to a hundredth.

    Args:
        before: the share of the training that is done before the step, from 0 to 1.
        after: the share that is done after it.
    """
    if after < _WARM_UP:
        return after / _WARM_UP
    fallen = max(0.0, before - _WARM_UP) / (1 - _WARM_UP)
    return _LEAST + (1 - _LEAST) * 0.5 * (1 + math.cos(math.pi * fallen))

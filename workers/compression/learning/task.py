"""What is trained, and what for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from workers.compression.learning.feed import Batch, Forward, Outputs
from workers.compression.measure.quality import Yardstick


@dataclass(frozen=True)
class Task:
    """What is trained, and what for.

    Attributes:
        parameters: by name; changed in place.
        forward: runs the graph.
        loss: a number from outputs and the batch that they answer, a mean over its samples.
        rates: factors of the learning rate by parameter; 1 where there is none.
        constrain: called after each step with the share of the training that is done, without
            gradient: puts parameters back to where they must be.
        settled: the share of the training from which a state may be kept: earlier ones are not
            what is asked for yet.
        yardstick: the metric against the targets; without one the loss alone decides.
        exact: no mixed precision, on any device.
        normalised: whether normalisation looks at the batch, so that weights bear a large rate.
    """

    parameters: Mapping[str, nn.Parameter]
    forward: Forward
    loss: Callable[[Outputs, Batch], Tensor]
    rates: Mapping[str, float] = field(default_factory=dict)
    constrain: Callable[[float], None] | None = None
    settled: float = 0.0
    yardstick: Yardstick | None = None
    exact: bool = False
    normalised: bool = False

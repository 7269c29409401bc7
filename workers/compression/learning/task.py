"""The task of a training: the network, its loss and its constraints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from workers.compression.learning.feed import Batch, Forward, Outputs
from workers.compression.measure.quality import Yardstick


@dataclass(frozen=True)
class Task:
    """The task of a training: the network, its loss and its constraints.

    Attributes:
        parameters: the trained parameters by name; changed in place.
        forward: runs the graph.
        loss: computes the mean loss from the outputs and their batch.
        rates: factors of the learning rate by parameter; 1 where there is none.
        constrain: called after each step, without gradient, with the share of the training that is
            done; projects the parameters onto the constraint.
        settled: the share of the training after which a state may be kept; earlier states do not
            meet the constraint yet.
        yardstick: the metric against the targets; None lets the loss alone decide.
        exact: whether mixed precision is ruled out, on any device.
        normalised: whether batch normalisation is in training mode, so that a large rate is safe.
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

"""The criteria, a row each: how much a channel contributes, and how much a single weight.

What a criterion needs, and what it goes with, stands in ``app/domain/criteria.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.criteria import Criterion
from app.domain.problems import InvalidModel, StepFailed
from app.domain.steps import Prune
from workers.compression.methods.prune import importance
from workers.compression.methods.prune.activations import apoz
from workers.compression.methods.prune.gradients import (
    by_gradient,
    calibration,
    squared_gradients,
)
from workers.compression.methods.prune.groups import Analysis
from workers.compression.methods.prune.importance import Scores
from workers.compression.methods.prune.zeros import Array
from workers.compression.samples.context import Context

Advance = Callable[[float], None]


@dataclass(frozen=True)
class ChannelSources:
    """What criteria of channels look at."""

    model: ir.Model
    """The graph; not changed."""
    analysis: Analysis
    """What hangs together."""
    parameters: Prune
    context: Context
    advance: Advance

    @property
    def weights(self) -> importance.Weights:
        """The weights of layers."""
        return importance.weights(self.model)


@dataclass(frozen=True)
class WeightSources:
    """What criteria of single weights look at."""

    model: ir.Model
    """The graph; not changed."""
    shapes: Mapping[str, Sequence[int]]
    """Of the weights that are compared, by name."""
    context: Context
    advance: Advance


Factors = dict[str, Array]
"""For each weight's name an array of its shape; empty where a criterion has none."""


@dataclass(frozen=True)
class Way:
    """How a criterion is computed; None where it does not compare such things."""

    channels: Callable[[ChannelSources], Scores] | None
    """Scores the units of a graph."""
    factors: Callable[[WeightSources], Factors] | None = None
    """What is known of single weights beside their values."""
    weights: Callable[[Array, Array | None], NDArray[np.float64]] | None = None
    """Scores the weights of a layer, of any shape, from their values and their factors."""
    eliminates: bool = False
    """Whether ``obc`` chooses anew, where there is data, as many weights as the scores did."""
    between_groups: bool = False
    """Whether its scores of channels are comparable between groups as they are."""


def _hessian_or_magnitude(seen: ChannelSources) -> Scores:
    """Score by what is known: gradients on data, else weights alone."""
    if seen.context.train is not None and len(seen.context.train):
        try:
            return _hessian(seen)
        except (StepFailed, InvalidModel):
            pass  # no gradient reaches the weights of this graph
    return importance.magnitude(seen.weights, seen.analysis, "l2")


def _magnitude(seen: ChannelSources) -> Scores:
    return importance.magnitude(seen.weights, seen.analysis, seen.parameters.norm)


def _taylor(seen: ChannelSources) -> Scores:
    return by_gradient(
        "taylor", seen.model, seen.weights, seen.analysis, seen.context, seen.advance
    )


def _hessian(seen: ChannelSources) -> Scores:
    return by_gradient(
        "hessian", seen.model, seen.weights, seen.analysis, seen.context, seen.advance
    )


def _lamp(seen: ChannelSources) -> Scores:
    return importance.lamp(importance.magnitude(seen.weights, seen.analysis, "l2"), seen.analysis)


def _none(_seen: WeightSources) -> Factors:
    return {}


def _data(seen: WeightSources) -> Factors:
    """Refuse where there is no data: it is looked at when the layers are fitted."""
    calibration(seen.context)
    return {}


def _fisher(seen: WeightSources) -> Factors:
    return squared_gradients(seen.model, list(seen.shapes), seen.context, seen.advance)


def _chance(seen: WeightSources) -> Factors:
    random = np.random.default_rng(seen.context.seed)
    return {name: random.random(shape, np.float32) for name, shape in seen.shapes.items()}


def _squares(weight: Array, _factor: Array | None) -> NDArray[np.float64]:
    return weight.astype(np.float64) ** 2


def _layer_adaptive(weight: Array, _factor: Array | None) -> NDArray[np.float64]:
    return importance.layer_adaptive(weight.astype(np.float64) ** 2)


def _weighted_squares(weight: Array, factor: Array | None) -> NDArray[np.float64]:
    squares = weight.astype(np.float64) ** 2
    return squares if factor is None else squares * factor


def _factor_alone(_weight: Array, factor: Array | None) -> NDArray[np.float64]:
    assert factor is not None, "each weight has a factor of chance"
    return factor.astype(np.float64)


CRITERIA: Mapping[Criterion, Way] = {
    "auto": Way(_hessian_or_magnitude, _none, _layer_adaptive, eliminates=True),
    "magnitude": Way(_magnitude, _none, _squares),
    "taylor": Way(_taylor, _fisher, _weighted_squares),
    "hessian": Way(_hessian, _fisher, _weighted_squares),
    "apoz": Way(lambda seen: apoz(seen.model, seen.analysis, seen.context, seen.advance)),
    "lamp": Way(_lamp, _none, _layer_adaptive, between_groups=True),
    "obc": Way(None, _data, _layer_adaptive, eliminates=True),
    "bn_scale": Way(lambda seen: importance.bn_scale(seen.weights, seen.analysis, seen.model)),
    "fpgm": Way(lambda seen: importance.fpgm(seen.weights, seen.analysis)),
    "random": Way(
        lambda seen: importance.random(seen.analysis, seen.context.seed), _chance, _factor_alone
    ),
}


def score_channels(seen: ChannelSources) -> Scores:
    """Score the units of a graph, so that groups compete."""
    way = CRITERIA[seen.parameters.criterion]
    assert way.channels is not None, "the parameters refuse it"
    scores = way.channels(seen)
    return scores if way.between_groups else importance.normalized(scores, seen.analysis)


def factors_of(criterion: Criterion, seen: WeightSources) -> Factors:
    """Return what a criterion knows of single weights beside their values.

    Raises:
        StepFailed: it looks at data, and there is none.
    """
    factors = CRITERIA[criterion].factors
    assert factors is not None, "the parameters refuse it"
    return factors(seen)


def score_weights(criterion: Criterion, weight: Array, factor: Array | None) -> NDArray[np.float64]:
    """Score the weights of one layer, of any shape."""
    scores = CRITERIA[criterion].weights
    assert scores is not None, "the parameters refuse it"
    return scores(weight, factor)

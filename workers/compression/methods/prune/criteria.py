"""The table of criteria: how each scores the importance of channels and of single weights.

The requirements of each criterion are in ``app/domain/criteria.py``.
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
from workers.compression.progress import Advance
from workers.compression.samples.context import Context


@dataclass(frozen=True)
class ChannelSources:
    """The inputs of the functions that score channels."""

    model: ir.Model
    """The graph; not changed."""
    analysis: Analysis
    """The coupled units of the graph."""
    parameters: Prune
    context: Context
    advance: Advance

    @property
    def weights(self) -> importance.Weights:
        """The weights of the graph's layers."""
        return importance.layer_weights(self.model)


@dataclass(frozen=True)
class WeightSources:
    """The inputs of the functions that score single weights."""

    model: ir.Model
    """The graph; not changed."""
    shapes: Mapping[str, Sequence[int]]
    """The shapes of the weights that are compared, by name."""
    context: Context
    advance: Advance


Factors = dict[str, Array]
"""For each weight, by name, a factor for each element; empty if a criterion uses no factors."""


@dataclass(frozen=True)
class Scoring:
    """The functions of a criterion; None if it does not score channels, or single weights."""

    channels: Callable[[ChannelSources], Scores] | None
    """Scores the units of a graph."""
    factors: Callable[[WeightSources], Factors] | None = None
    """Computes a factor for each single weight, which its score combines with the value."""
    weights: Callable[[Array, Array | None], NDArray[np.float64]] | None = None
    """Scores the elements of a weight of any shape, from their values and their factors."""
    eliminates: bool = False
    """Whether, with data, ``obc`` makes the final choice of as many weights as the scores chose."""
    between_groups: bool = False
    """Whether the scores of channels are comparable between groups without normalisation."""


def _hessian_or_magnitude(sources: ChannelSources) -> Scores:
    """Score by gradients if there is data and a gradient, else by the magnitude of weights."""
    if sources.context.train:
        try:
            return _hessian(sources)
        except (StepFailed, InvalidModel):
            pass  # no gradient reaches the weights of this graph
    return importance.magnitude(sources.weights, sources.analysis, "l2")


def _magnitude(sources: ChannelSources) -> Scores:
    return importance.magnitude(sources.weights, sources.analysis, sources.parameters.norm)


def _taylor(sources: ChannelSources) -> Scores:
    return by_gradient(
        "taylor", sources.model, sources.weights, sources.analysis, sources.context, sources.advance
    )


def _hessian(sources: ChannelSources) -> Scores:
    return by_gradient(
        "hessian",
        sources.model,
        sources.weights,
        sources.analysis,
        sources.context,
        sources.advance,
    )


def _lamp(sources: ChannelSources) -> Scores:
    return importance.lamp(
        importance.magnitude(sources.weights, sources.analysis, "l2"), sources.analysis
    )


def _no_factors(_sources: WeightSources) -> Factors:
    return {}


def _require_data(sources: WeightSources) -> Factors:
    """Raise StepFailed without data, which the reconstruction of the layers needs."""
    calibration(sources.context)
    return {}


def _fisher(sources: WeightSources) -> Factors:
    return squared_gradients(sources.model, list(sources.shapes), sources.context, sources.advance)


def _random_factors(sources: WeightSources) -> Factors:
    random = np.random.default_rng(sources.context.seed)
    return {name: random.random(shape, np.float32) for name, shape in sources.shapes.items()}


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


CRITERIA: Mapping[Criterion, Scoring] = {
    "auto": Scoring(_hessian_or_magnitude, _no_factors, _layer_adaptive, eliminates=True),
    "magnitude": Scoring(_magnitude, _no_factors, _squares),
    "taylor": Scoring(_taylor, _fisher, _weighted_squares),
    "hessian": Scoring(_hessian, _fisher, _weighted_squares),
    "apoz": Scoring(
        lambda sources: apoz(sources.model, sources.analysis, sources.context, sources.advance)
    ),
    "lamp": Scoring(_lamp, _no_factors, _layer_adaptive, between_groups=True),
    "obc": Scoring(None, _require_data, _layer_adaptive, eliminates=True),
    "bn_scale": Scoring(
        lambda sources: importance.bn_scale(sources.weights, sources.analysis, sources.model)
    ),
    "fpgm": Scoring(lambda sources: importance.fpgm(sources.weights, sources.analysis)),
    "random": Scoring(
        lambda sources: importance.random(sources.analysis, sources.context.seed),
        _random_factors,
        _factor_alone,
    ),
}


def score_channels(sources: ChannelSources) -> Scores:
    """Score the units of a graph; the scores are comparable between groups."""
    scoring = CRITERIA[sources.parameters.criterion]
    assert scoring.channels is not None, "the parameters refuse it"
    scores = scoring.channels(sources)
    return scores if scoring.between_groups else importance.normalized(scores, sources.analysis)


def factors_of(criterion: Criterion, sources: WeightSources) -> Factors:
    """Return the factors by which a criterion weighs single weights.

    Raises:
        StepFailed: the criterion needs data, and there is none.
    """
    factors = CRITERIA[criterion].factors
    assert factors is not None, "the parameters refuse it"
    return factors(sources)


def score_weights(criterion: Criterion, weight: Array, factor: Array | None) -> NDArray[np.float64]:
    """Score the elements of one layer's weight, which has any shape."""
    scores = CRITERIA[criterion].weights
    assert scores is not None, "the parameters refuse it"
    return scores(weight, factor)

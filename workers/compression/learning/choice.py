"""Chooses which state of a training is kept: the best one that was validated."""

import math
from dataclasses import dataclass

from app.domain.metrics import more_is_better
from workers.compression.learning.judging import Judgement


@dataclass
class Choice:
    """The best state so far.

    An accuracy is a coarse figure: on a few hundred samples, a difference of one point may be
    chance. States within one standard error of the highest accuracy are taken as equal, as Breiman
    et al. (1984) prune trees, and the loss decides between them.
    """

    peak: float = -math.inf
    """The highest figure of any state so far; higher is better."""
    figure: float = -math.inf
    """The figure of the state that is kept."""
    loss: float = math.inf
    """The loss of the state that is kept."""

    @property
    def made(self) -> bool:
        """Whether any state has been kept."""
        return math.isfinite(self.loss)

    def takes(self, state: Judgement, head_start: float = 0.0) -> bool:
        """Return whether a state is better than the kept one; if so, it becomes the kept one.

        Args:
            state: the judgement of the state; a state without a finite loss is never kept.
            head_start: how much too high the metric of this state is; it is subtracted.
        """
        if not math.isfinite(state.loss):
            return False
        figure, chance = _figure(state, head_start)
        self.peak = max(self.peak, figure)
        least = self.peak - chance
        if figure < least or (self.figure >= least and state.loss >= self.loss):
            return False
        self.figure, self.loss = figure, state.loss
        return True


def head_start(trained_on: Judgement, set_aside: Judgement) -> float:
    """Return how much better a state does on samples only because it was trained on them.

    0 where the difference may be chance (less than one standard error), and where the metric is
    not an accuracy.

    Args:
        trained_on: the judgement of the state on samples that it was trained on.
        set_aside: the judgement of the same state on validation samples.
    """
    if trained_on.kind != "share" or trained_on.figure is None or set_aside.figure is None:
        return 0.0
    chance = math.hypot(
        _standard_error(trained_on.figure, trained_on.samples),
        _standard_error(set_aside.figure, set_aside.samples),
    )
    gap = trained_on.figure - set_aside.figure
    return gap if gap > chance else 0.0


def _standard_error(share: float, samples: int) -> float:
    return math.sqrt(max(share * (1 - share), 0.0) / samples)


def _figure(state: Judgement, head_start: float) -> tuple[float, float]:
    """Return a figure for which higher is better, and its standard error if it is an accuracy."""
    if state.kind is None or state.figure is None:
        return -state.loss, 0.0
    figure = state.figure if more_is_better(state.kind) else -state.figure
    chance = _standard_error(figure, state.samples) if state.kind == "share" else 0.0
    return figure - head_start, chance

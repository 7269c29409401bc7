"""Which of the states that a training passes is kept."""

import math
from dataclasses import dataclass

from app.domain.metrics import more_is_better
from workers.compression.learning.judging import Judgement


@dataclass
class Choice:
    """The best state so far.

    Shares of right answers are coarse: of a few hundred samples a point is chance. Those within one
    standard error of the highest are taken as equal, as Breiman et al. (1984) prune trees, and the
    loss decides, which counts how right each answer is.
    """

    peak: float = -math.inf
    """The best figure of any state; more is better."""
    figure: float = -math.inf
    """That of the state that is kept."""
    loss: float = math.inf
    """That of the state that is kept."""

    @property
    def made(self) -> bool:
        """Whether a state is kept at all."""
        return math.isfinite(self.loss)

    def takes(self, state: Judgement, head_start: float = 0.0) -> bool:
        """Return whether a state is better than the one that is kept; remember it if so.

        Args:
            state: what the samples say of it; one without a finite loss is never kept.
            head_start: by how much the metric of this state looks better than it is.
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
    """Return by how much a state answers samples better because it was trained on them.

    0 where that may be chance (less than one standard error of the difference), and where the
    metric is not a share of right answers.

    Args:
        trained_on: the state on samples that it was trained on.
        set_aside: the same state on samples of the same kind that it was not trained on.
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
    """Return a number of which more is better, and its standard error where it is a share."""
    if state.kind is None or state.figure is None:
        return -state.loss, 0.0
    figure = state.figure if more_is_better(state.kind) else -state.figure
    chance = _standard_error(figure, state.samples) if state.kind == "share" else 0.0
    return figure - head_start, chance

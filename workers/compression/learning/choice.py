"""Which of the states that a training passes is kept."""

import math
from dataclasses import dataclass

from app.domain.metrics import Kind, more_is_better
from app.domain.reports import Quality


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
    loss: float = math.inf

    @property
    def made(self) -> bool:
        """Whether a state is kept at all."""
        return math.isfinite(self.loss)

    def takes(self, loss: float, metric: tuple[Kind, float] | None, samples: int) -> bool:
        """Return whether a state is better than the one that is kept; remember it if so.

        Args:
            loss: on the samples that judge; a state without a finite one is never kept.
            metric: its kind and its value on the same samples; without one the loss alone decides.
            samples: their number.
        """
        if not math.isfinite(loss):
            return False
        figure, chance = _figure(loss, metric, samples)
        self.peak = max(self.peak, figure)
        least = self.peak - chance
        if figure < least or (self.figure >= least and loss >= self.loss):
            return False
        self.figure, self.loss = figure, loss
        return True


def head_start(known: Quality, unseen: Quality) -> float:
    """Return by how much a model looks better on samples than it is, for it was made with them.

    0 where that may be chance (less than one standard error of the difference), and where no share
    of right answers is counted.

    Args:
        known: its quality on the samples.
        unseen: on samples of the same kind that it was not made with.
    """
    if known.kind != "share":
        return 0.0
    chance = math.hypot(_error(known.value, known.samples), _error(unseen.value, unseen.samples))
    gap = known.value - unseen.value
    return gap if gap > chance else 0.0


def _error(share: float, samples: int) -> float:
    """Return the standard error of a share."""
    return math.sqrt(max(share * (1 - share), 0.0) / samples)


def _figure(loss: float, metric: tuple[Kind, float] | None, samples: int) -> tuple[float, float]:
    """Return a number of which more is better, and its standard error where it is a share."""
    if metric is None:
        return -loss, 0.0
    kind, value = metric
    figure = value if more_is_better(kind) else -value
    return figure, _error(value, samples) if kind == "share" else 0.0

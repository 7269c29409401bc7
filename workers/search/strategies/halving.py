"""Recovery in rounds: many short trainings, few long ones (successive halving).

In its asynchronous form (ASHA, Li et al. 2018): of the trials of a round that have ended, the best
third is tried again with training three times as long, as soon as it is the best third. What is new
begins in the first round. Nothing waits for a round to be full, so workers are never idle.
"""

import math
import random
from collections.abc import Iterator, Sequence

from app.domain.steps import AnyStep
from workers.search.choices import at_random
from workers.search.history import Proposal, Trial, merit
from workers.search.space import Facts, Space, bounded, trainings

EPOCHS = (2, 6, 18, 54)
"""Of the trainings of each round."""
BEST = 3
"""One of so many trials goes on to the next round, whose trainings are as many times as long."""
_FIRST_SHARE = 0.4
"""Of a trial's part of the budget's minutes that its trainings may take in the first round. All
rounds together then take as much as the budget has."""


def proposals(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield what has earned a longer training, the longest first; then pipelines at random."""
    for place in range(len(EPOCHS) - 2, -1, -1):
        ended = [each for each in _round(history, place) if each.known]
        ended.sort(key=lambda trial: merit(trial, space.facts.bound))
        further = [each.note["genome"] for each in _round(history, place + 1)]
        for trial in ended[: len(ended) // BEST]:
            has_figures = trial.cost < math.inf
            if has_figures and trial.note["genome"] not in further and trainings(trial.steps):
                yield _proposal(space.facts, trial.steps, trial.note["genome"], place + 1)
    for steps, genome in space.draws(lambda: at_random(rng)):
        yield _proposal(space.facts, steps, genome, 0)


def _round(history: Sequence[Trial], place: int) -> list[Trial]:
    return [trial for trial in history if trial.note.get("round") == place]


def _proposal(facts: Facts, steps: Sequence[AnyStep], genome: object, place: int) -> Proposal:
    minutes = _FIRST_SHARE * facts.share * BEST**place
    longer = bounded(steps, minutes, epochs=EPOCHS[place])
    return Proposal(longer, {"genome": genome, "round": place})

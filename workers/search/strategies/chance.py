"""Pipelines at random: the control that other strategies are measured against."""

import random
from collections.abc import Iterator, Sequence

from workers.search.choices import at_random
from workers.search.history import Proposal, Trial
from workers.search.space import Space


def proposals(space: Space, _history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield pipelines whose methods and parameters are drawn evenly."""
    for steps, genome in space.draws(lambda: at_random(rng)):
        yield Proposal(steps, {"genome": genome})

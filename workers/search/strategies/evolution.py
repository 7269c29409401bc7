"""Regularised evolution (Real et al. 2019): the oldest dies, the best of a few has a child.

The population is the last trials that were known. Of a sample of them the best one is the parent;
its child differs in about one choice. Until the population is full, pipelines are drawn at random.
"""

import random
from collections.abc import Iterator, Sequence

from workers.search.choices import Genome, near
from workers.search.history import Proposal, Trial, merit
from workers.search.space import Space
from workers.search.strategies import chance

POPULATION = 8
SAMPLE = 3
"""Of the population, from which the parent is chosen."""


def proposals(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield children of good trials; pipelines at random until there are enough trials."""
    if len(history) < POPULATION:
        yield from chance.proposals(space, history, rng)
        return
    known = [trial for trial in history if trial.known][-POPULATION:]
    for steps, genome in space.draws(lambda: near(_parent(known, space, rng), rng)):
        yield Proposal(steps, {"genome": genome})


def _parent(known: Sequence[Trial], space: Space, rng: random.Random) -> Genome:
    drawn = rng.sample(known, min(SAMPLE, len(known)))
    best = min(drawn, key=lambda trial: merit(trial, space.facts.bound), default=None)
    genome: Genome = best.note.get("genome", {}) if best else {}
    return genome

"""The strategies, a module each, listed once, here.

A strategy is a function from the space, the history and a generator of random numbers to pipelines
in the order of its preference. It keeps nothing between calls: what it knows is the history, which
is stored; so any worker may ask next, and the same history gives the same answer.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice

from app.domain.searches import StrategyName
from app.domain.steps import AnyStep
from workers.search.history import Proposal, Trial
from workers.search.space import Space
from workers.search.strategies import chance, evolution, guided, halving, once_for_all, optuna
from workers.search.strategies.guided import Strategy

STRATEGIES: Mapping[StrategyName, Strategy] = {
    "guided": guided.proposals,
    "random": chance.proposals,
    "evolution": evolution.proposals,
    "tpe": optuna.tpe,
    "nsga2": optuna.nsga2,
    "amc": guided.amc,
    "haq": guided.haq,
    "halving": halving.proposals,
    "once_for_all": once_for_all.proposals,
}

STAND_IN = "stand_in"
"""The key in the note of a trial that is drawn at random: its strategy had nothing new."""

WHOLE: frozenset[StrategyName] = frozenset({"once_for_all"})
"""Strategies for which no pipeline at random stands in: a search ends where they have nothing."""

_LOOKED_AT = 200
"""Proposals that were all tried before, after which a strategy has nothing new."""


def ask(
    strategy: StrategyName, space: Space, history: Sequence[Trial], seed: int
) -> Proposal | None:
    """Return the pipeline to try next, which was not tried before; None where there is none.

    Where the strategy has nothing new, the pipeline is drawn at random, but for those of ``WHOLE``.

    Args:
        strategy: who is asked.
        space: what may be tried.
        history: all trials so far, in the order in which they were asked for.
        seed: of the search.
    """
    rng = random.Random(f"{seed} {len(history)}")  # noqa: S311 (a choice of pipelines)
    tried = {spelled(trial.steps) for trial in history}
    fallback: tuple[Strategy, ...] = () if strategy in WHOLE else (_by_chance,)
    proposals = (
        islice(source(space, history, rng), _LOOKED_AT)
        for source in (STRATEGIES[strategy], *fallback)
    )
    for each in chain.from_iterable(proposals):
        proposal = replace(each, steps=space.completed(each.steps))
        if space.fits(proposal.steps) and spelled(proposal.steps) not in tried:
            return proposal
    return None


def _by_chance(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield pipelines at random, marked as what stands in for a strategy."""
    for proposal in chance.proposals(space, history, rng):
        yield replace(proposal, note={**proposal.note, STAND_IN: True})


def spelled(steps: Sequence[AnyStep]) -> str:
    """Return a pipeline as text that is the same for the same pipeline."""
    return json.dumps([step.model_dump(mode="json") for step in steps], sort_keys=True)

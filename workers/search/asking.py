"""What a search tries next: its strategy's answer to what is known of the trials so far.

The answer must not hang on how many workers there are, in which order trials end, or who is killed
meanwhile. So the search, and not its fleet, says how many of the last trials a choice does not know
of (``budget.at_once``): these may run at one time, and what they come to is left out even where it
is there already. Trials are heard in any order, and are known in the order of their numbers.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from app.domain.steps import Quantize
from workers.search import outcomes
from workers.search.facts import facts_of
from workers.search.history import Proposal, Trial
from workers.search.reading import Search, steps_of
from workers.search.space import Space
from workers.search.strategies import ask

AT_FIRST = 3
"""Trials, at least, of which one must have figures before others are tried."""


def next_proposal(search: Search) -> Proposal | None:
    """Return what to try next; None while that hangs on a trial that goes on, or nothing is left.

    Where a strategy has nothing to propose yet, it gets to know of one trial more.
    """
    asked = len(search.trials)
    if search.original is not None or asked >= search.objective.budget.trials:
        return None
    space = Space(facts_of(search.request, search.model, search.dataset, search.chart))
    history = [
        Trial(steps_of(job), trial.note, outcomes.stored(trial.outcome))
        for trial, job in search.trials
    ]
    strategy, seed = search.objective.strategy, search.request.seed
    ended = len([*takewhile(lambda trial: trial.known, history)])
    for count in range(_least_known(search), ended + 1):
        proposal = ask(strategy, space, _knowing(history, count), seed)
        if proposal is not None:
            return proposal
    if not history:
        # It measures the original, and says why nothing can be done.
        return Proposal(space.completed([Quantize()]))
    return None


def is_without_figures(search: Search) -> bool:
    """Return whether no trial had figures, and as many were made as may be without any.

    Nothing more is tried then, unless one of them that still runs has some. As many as may run at
    one time are made: which of them ends first says nothing.
    """
    most = max(AT_FIRST, search.objective.budget.at_once)
    return len(search.trials) >= most and not search.points


def _least_known(search: Search) -> int:
    """Return the number of trials, from the first on, that the next one is chosen by."""
    return max(len(search.trials) + 1 - search.objective.budget.at_once, 0)


def _knowing(history: Sequence[Trial], count: int) -> list[Trial]:
    """Return a history of which the first trials are known, as if the others still ran."""
    return [*history[:count], *(replace(trial, outcome=None) for trial in history[count:])]

"""Networks out of one that was trained for it (Once-for-all, Cai et al. 2020).

The first trial that takes a network trains the supernet, with half of the budget's minutes. The
others take the result of that step, as any job takes what was made before, and train nothing: they
choose a network within the share, for 90 seconds of computing at most, and measure it. Which shares
are worth a trial is chosen as ``guided`` does, and so is whether bits stand behind the network.
"""

import random
from collections.abc import Iterator, Sequence

from app.domain.steps import AnyStep, Supernet
from app.domain.steps.recover import Recover
from workers.search.axes import networks_of
from workers.search.history import Proposal, Trial
from workers.search.space import Facts, Space, allowed
from workers.search.strategies.guided import over

_EPOCHS = 60
_SHARE = 0.5
"""Of the budget's minutes that the training of the supernet may take."""


def proposals(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield networks, and bits alone; networks once the supernet is there, or not yet begun."""
    uses = [trial for trial in history if _takes_a_network(trial.steps)]
    waits = bool(uses) and not any(trial.known for trial in uses)
    for proposal in over(networks_of, _prepared)(space, history, rng):
        if not (waits and _takes_a_network(proposal.steps)):
            yield proposal


def _takes_a_network(steps: Sequence[AnyStep]) -> bool:
    return any(step.follows for step in steps)


def _prepared(facts: Facts, steps: Sequence[AnyStep]) -> list[AnyStep]:
    """Return a pipeline with the supernet before the network: always the same."""
    if not _takes_a_network(steps):
        return [*steps]
    minutes = allowed(_SHARE * facts.share * facts.trials)
    return [Supernet(recover=Recover(epochs=_EPOCHS, minutes=minutes)), *steps]

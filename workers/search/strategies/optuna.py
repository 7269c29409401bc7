"""Optuna's samplers on the stored history: TPE (Bergstra 2011) and NSGA-II (Deb 2002).

A study is made anew from the history for each question, and forgotten after it. Optuna is imported
when it is needed: it takes a third of a second.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from workers.search.choices import Among, Domain, Value
from workers.search.history import Proposal, Trial, merit
from workers.search.space import Space

if TYPE_CHECKING:
    from optuna import Trial as Asked
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

POPULATION = 8
"""Trials at random before TPE begins, and of a generation of NSGA-II."""

_SEEDS = 2**31
_DRAWS = 40
"""Pipelines that a sampler draws for one question: some make no sense, or were tried."""
_WORST = 3.0
"""Cost and loss of a trial without figures."""

Values = Callable[[Trial], list[float]]
"""Returns what is minimised of a trial that was told."""


def tpe(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield what the tree-structured Parzen estimator expects most of; its figure is the merit."""
    from optuna.samplers import TPESampler

    def figure(trial: Trial) -> list[float]:
        return [merit(trial, space.facts.bound)]

    sampler = TPESampler(seed=rng.randrange(_SEEDS), n_startup_trials=POPULATION)
    yield from _asked(sampler, space, history, figure, 1)


def nsga2(space: Space, history: Sequence[Trial], rng: random.Random) -> Iterator[Proposal]:
    """Yield children of a population that lies along the front of cost and loss."""
    from optuna.samplers import NSGAIISampler

    def figures(trial: Trial) -> list[float]:
        return [min(trial.cost, _WORST), min(trial.drop, _WORST)]

    sampler = NSGAIISampler(seed=rng.randrange(_SEEDS), population_size=POPULATION)
    yield from _asked(sampler, space, history, figures, 2)


def _asked(
    sampler: "BaseSampler", space: Space, history: Sequence[Trial], values: Values, objectives: int
) -> Iterator[Proposal]:
    """Yield the pipelines that a sampler draws once it was told the history."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)
    domains = space.domains
    for trial in history:
        genome = trial.note.get("genome", {})
        if trial.known and genome.keys() <= domains.keys():
            study.add_trial(
                optuna.create_trial(
                    params=genome,
                    distributions={name: _distribution(domains[name]) for name in genome},
                    values=values(trial),
                    system_attrs=trial.note.get("sampler", {}),
                )
            )
    for _ in range(_DRAWS):
        asked = study.ask()
        drawn = space.draw(_suggesting(asked))
        state: dict[str, Any] = study.get_trials(deepcopy=False)[-1].system_attrs
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
        if drawn is not None:
            steps, genome = drawn
            yield Proposal(steps, {"genome": genome, "sampler": dict(state)})


def _suggesting(asked: "Asked") -> Callable[[str, Domain], Value]:
    """Return what chooses by a sampler."""

    def choose(name: str, domain: Domain) -> Value:
        if isinstance(domain, Among):
            value: Any = asked.suggest_categorical(name, domain.choices)
            chosen: Value = value
            return chosen
        if isinstance(domain.low, int) and isinstance(domain.high, int):
            return asked.suggest_int(name, domain.low, domain.high, log=domain.log)
        return asked.suggest_float(name, domain.low, domain.high, log=domain.log)

    return choose


def _distribution(domain: Domain) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(domain, Among):
        return CategoricalDistribution(domain.choices)
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)

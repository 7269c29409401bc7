"""Single choices: what a parameter is chosen among, and who chooses."""

import random
from collections.abc import Callable
from dataclasses import dataclass

Value = float | int | str
Genome = dict[str, Value]
"""A pipeline as named choices: ``{"prune": "use", "prune.ratio": 0.5, …}``."""

USE, SKIP = "use", "skip"


@dataclass(frozen=True)
class Between:
    """Numbers from ``low`` to ``high``; whole ones where both are."""

    low: float
    high: float
    log: bool = False

    def draw(self, rng: random.Random) -> float | int:
        """Return one at random, even over the range or over its logarithm."""
        if self.log:
            return self.hold(self.low * (self.high / self.low) ** rng.random())
        return self.hold(rng.uniform(self.low, self.high))

    def hold(self, value: float) -> float | int:
        """Return the number of the range that is next to ``value``."""
        held = min(max(value, self.low), self.high)
        return round(held) if isinstance(self.low, int) else round(held, 4)


@dataclass(frozen=True)
class Among:
    """Values to choose from."""

    choices: tuple[Value, ...]

    def draw(self, rng: random.Random) -> Value:
        """Return one at random."""
        return rng.choice(self.choices)


Domain = Between | Among

USED = Among((USE, SKIP))
Choose = Callable[[str, Domain], Value]
"""Chooses a value for a parameter by its name: at random, from a parent, or by a sampler."""


def at_random(rng: random.Random) -> Choose:
    """Return what chooses each value at random."""
    return lambda _, domain: domain.draw(rng)


def near(parent: Genome, rng: random.Random) -> Choose:
    """Return what chooses as a parent did, but about once: then a number near it, or any value.

    What the parent does not have is drawn anew.
    """
    rate = 1 / max(len(parent), 1)

    def choose(name: str, domain: Domain) -> Value:
        value = parent.get(name)
        if value is None:
            return domain.draw(rng)
        if rng.random() >= rate:
            return value
        if isinstance(domain, Among) or isinstance(value, str):
            return domain.draw(rng)
        return domain.hold(value * rng.uniform(0.8, 1.25))

    return choose

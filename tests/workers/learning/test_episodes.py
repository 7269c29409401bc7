"""Choices that are learned in episodes, on tables that are made up."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from workers.compression.learning.episodes import Limits, learned

LAYERS = 8
BUDGET = 0.5


@dataclass
class Table:
    """Layers that differ in weight and in loss; the sum of weights is bounded."""

    seed: int
    asked: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self.weights = random.dirichlet(np.ones(LAYERS))
        self.losses = 10 ** random.uniform(-2, 0, LAYERS)

    @property
    def layers(self) -> int:
        return LAYERS

    def state(self, layer: int, choices: Sequence[float]) -> list[float]:
        spent = float(self.weights[: len(choices)] @ np.array(choices)) if choices else 0.0
        return [layer / LAYERS, float(self.weights[layer]), spent, choices[-1] if choices else 1.0]

    def allowed(self, layer: int, wanted: float, choices: Sequence[float]) -> float:
        spent = float(self.weights[:layer] @ np.array(choices)) if choices else 0.0
        return min(wanted, max((BUDGET - spent) / float(self.weights[layer]), 0.0))

    def reward(self, choices: Sequence[float]) -> float:
        self.asked.append(list(choices))
        return -float(self.losses @ (1 - np.array(choices)) ** 2)


def limits(episodes: int, seconds: float = 1e9) -> Limits:
    ticks = iter(range(10**6))
    return Limits(episodes, lambda: next(ticks) < seconds)


def test_episodes_learn_more_than_chance_finds_at_equal_cost() -> None:
    learned_losses, chance_losses = [], []
    for seed in range(4):
        table = Table(seed)
        best, episodes = learned(table, [], limits(120), seed)
        assert episodes == len(table.asked) == 120
        random = np.random.default_rng(seed + 1000)
        rewards = []
        for _ in range(episodes):
            choices: list[float] = []
            for layer in range(LAYERS):
                choices.append(table.allowed(layer, float(random.random()), choices))
            rewards.append(table.reward(choices))
        learned_losses.append(-table.reward(best))
        chance_losses.append(-max(rewards))
    assert sum(learned_losses) < 0.9 * sum(chance_losses)
    pairs = zip(learned_losses, chance_losses, strict=True)
    assert all(ours < 1.1 * theirs for ours, theirs in pairs)


def test_the_budget_is_kept_and_the_result_is_the_best_that_was_asked_for() -> None:
    table = Table(0)
    best, _ = learned(table, [[0.5] * LAYERS], limits(30), 0)
    assert best in table.asked
    assert all(float(table.weights @ np.array(choices)) <= BUDGET + 1e-9 for choices in table.asked)
    assert table.reward(best) >= table.reward([0.5] * LAYERS)


def test_the_same_seed_makes_the_same_choices() -> None:
    first, second = (learned(Table(3), [], limits(12), seed=7)[0] for _ in range(2))
    assert first == second
    assert learned(Table(3), [], limits(12), seed=8)[0] != first


def test_what_cannot_be_rewarded_is_worst() -> None:
    class Broken(Table):
        def reward(self, choices: Sequence[float]) -> float:
            return np.nan if choices[0] > 0.2 else super().reward(choices)

    task = Broken(0)
    best, _ = learned(task, [[1.0] * LAYERS, [0.1] * LAYERS], limits(30), 0)
    assert best[0] <= 0.2


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_episodes_end_when_the_time_does(seconds: float) -> None:
    _, episodes = learned(Table(0), [], limits(100, seconds), 0)
    assert 1 <= episodes < 10

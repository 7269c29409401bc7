"""Choices for one layer after another, learned by trying: an actor and a critic on episodes.

An episode chooses a number between 0 and 1 for each layer in turn, and is rewarded once, at its
end. The actor says what to choose in a state, the critic what reward to expect of a choice (DDPG:
Lillicrap 2016, as AMC, He 2018, and HAQ, Wang 2019, use it for ratios and bits of layers). As
nothing is discounted and rewards come at the end alone, the critic learns the episodes' rewards as
they are, as ranks, and no target networks are needed. Every other episode goes near the best one so
far, and actor and critic learn of it as well (self-imitation: Oh 2018): some hundred are few.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from workers.compression.graph import runtime
from workers.compression.measure.affordable import affordable
from workers.compression.measure.reference import Reference
from workers.compression.samples.context import Context

EPISODES = 240
"""The most episodes of a step."""
_SECONDS = 90.0
"""The seconds of computing after which no further episode begins."""
_WORK = 1e9
"""Multiply-accumulates that a graph may take in one episode."""
_FEWEST, _MOST = 8, 64
"""The least and the greatest number of samples of an episode, whatever their work."""

_WIDTH = 32
"""Of the hidden layers, two in each network."""

_ACTOR_RATE, _CRITIC_RATE = 3e-3, 1e-2
"""Learning rates."""
_BATCH = 64
_MEMORY = 2000
_UPDATES = 4
"""Steps of learning after each episode."""
_WARM = 0.15
"""The share of episodes whose choices are drawn evenly: the critic has to have seen both ends."""
_SPREAD, _LAST_SPREAD = 0.3, 0.03
"""The deviation of choices from the actor's, right after those episodes and in the last one."""


class Task(Protocol):
    """What episodes choose for, and how they are rewarded."""

    @property
    def layers(self) -> int:
        """The number of choices of an episode."""

    def state(self, layer: int, choices: Sequence[float]) -> Sequence[float]:
        """Return what is known before the choice for a layer: always as many numbers, near 1."""

    def allowed(self, layer: int, wanted: float, choices: Sequence[float]) -> float:
        """Return the choice next to ``wanted`` after which the budget can still be kept."""

    def reward(self, choices: Sequence[float]) -> float:
        """Return how good the choices are; larger is better, and NaN is worst."""


@dataclass(frozen=True)
class Limits:
    """When learning ends."""

    episodes: int
    has_time: Callable[[], bool]
    """Whether a further episode may begin."""


def limits_of(context: Context) -> Limits:
    """Return the limits of the episodes of one step."""
    return Limits(EPISODES, context.time_for(_SECONDS))


def reference_of(model: ir.Model, context: Context) -> Reference:
    """Return a graph's outputs on a few training samples, by which episodes are rewarded."""
    assert context.train is not None, "the step needs inputs"
    count = affordable(model, context.train, _WORK, _FEWEST, _MOST)
    with runtime.in_file(model) as path:
        return Reference(path, context.train.draw(count, context.seed), context.threads)


class ActorCritic:
    """An actor, a critic, and the choices that they learn from.

    Args:
        size: numbers in a state.
        seed: of the first weights and of the batches.
    """

    def __init__(self, size: int, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._actor = nn.Sequential(*_layers(size), nn.Sigmoid())
            self._critic = nn.Sequential(*_layers(size + 1))
        self._random = np.random.default_rng(seed)
        self._memory: deque[tuple[Sequence[float], float, float]] = deque(maxlen=_MEMORY)
        self._actor_optimizer = torch.optim.Adam(self._actor.parameters(), _ACTOR_RATE)
        self._critic_optimizer = torch.optim.Adam(self._critic.parameters(), _CRITIC_RATE)

    def choice(self, state: Sequence[float]) -> float:
        """Return what the actor chooses, 0 to 1."""
        with torch.no_grad():
            return float(self._actor(torch.tensor(state, dtype=torch.float32)))

    def remember(self, state: Sequence[float], choice: float, reward: float) -> None:
        """Keep a choice, and the reward of its episode."""
        self._memory.append((state, choice, reward))

    def learn(self) -> None:
        """Bring the critic nearer to the rewards, and the actor to what the critic prefers."""
        rewards = np.array([reward for *_, reward in self._memory])
        ranks = np.argsort(np.argsort(rewards)) / len(rewards)
        for _ in range(_UPDATES):
            rows = self._random.integers(len(self._memory), size=_BATCH)
            states, choices = (
                torch.tensor(np.array([self._memory[row][part] for row in rows], np.float32))
                for part in (0, 1)
            )
            rewarded = torch.tensor(2 * ranks[rows, None] - 1, dtype=torch.float32)
            expected = self._critic(torch.cat([states, choices[:, None]], 1))
            _descend(self._critic_optimizer, nn.functional.mse_loss(expected, rewarded))
            preferred = self._critic(torch.cat([states, self._actor(states)], 1))
            _descend(self._actor_optimizer, -preferred.mean())


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Do one step of an optimizer."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _layers(size: int) -> list[nn.Module]:
    return [
        nn.Linear(size, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU(),
        nn.Linear(_WIDTH, 1),
    ]  # fmt: skip


def learned(
    task: Task,
    known: Sequence[Sequence[float]],
    limits: Limits,
    seed: int,
    advance: Callable[[float], None] = lambda _done: None,
) -> tuple[list[float], int]:
    """Return the choices with the greatest reward of all episodes, and how many there were.

    Args:
        task: what is chosen.
        known: choices to begin with, such as those of a simple rule; so the result is no worse.
        limits: the episodes and the time. One episode is made in any case.
        seed: of all that is random.
        advance: called with the fraction done.
    """
    random = np.random.default_rng(seed)
    agent = ActorCritic(len(task.state(0, [])), seed)
    best, best_reward = list[float](), -math.inf
    for episode in range(limits.episodes):
        if episode and not limits.has_time():
            return best, episode
        done = episode / limits.episodes
        warm = done < _WARM
        spread = _SPREAD * (_LAST_SPREAD / _SPREAD) ** max((done - _WARM) / (1 - _WARM), 0.0)
        states, choices = list[Sequence[float]](), list[float]()
        for layer in range(task.layers):
            state = task.state(layer, choices)
            if episode < len(known):
                wanted = known[episode][layer]
            elif warm:
                wanted = float(random.random())
            else:
                middle = best[layer] if episode % 2 else agent.choice(state)
                wanted = _near(middle, spread, random)
            states.append(state)
            choices.append(task.allowed(layer, wanted, choices))
        reward = task.reward(choices)
        reward = -math.inf if math.isnan(reward) else reward
        if reward > best_reward or not best:
            best, best_reward = choices, reward
        for state, choice in zip(states, choices, strict=True):
            agent.remember(state, choice, reward)
        agent.learn()
        advance((episode + 1) / limits.episodes)
    return best, limits.episodes


def _near(middle: float, spread: float, random: np.random.Generator) -> float:
    """Draw from the normal distribution that is cut off at 0 and 1."""
    while not 0 <= (drawn := random.normal(middle, spread)) <= 1:
        pass
    return float(drawn)

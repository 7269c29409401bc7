"""Single steps of an optimizer, and the weights that they change."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.domain.problems import StepFailed
from app.domain.steps.recover import Optimizer
from workers.compression.learning import optimizers
from workers.compression.learning.feed import Feed
from workers.compression.learning.task import Task

_GRADIENT_NORM = 1.0
MIXED_FROM = 10_000_000
"""The weights from which a GPU trains in mixed precision.

A smaller network waits for its kernels to be launched, and the casts are launches too. On an H100
a step of MobileNetV2 and of a small ViT took longer with them; one of ResNet-20 took less.
"""

Weights = dict[str, Tensor]


class Astray(Exception):  # noqa: N818 (the loop catches it)
    """A loss or a gradient is not a number."""


class Stepper:
    """Changes the weights of a task, one step of the optimizer at a time."""

    def __init__(self, task: Task, feed: Feed, name: Optimizer, seed: int) -> None:
        """Start with a fresh optimizer.

        Args:
            task: the network, its loss and its constraints.
            feed: the samples.
            name: the optimizer.
            seed: seed of the augmentation.
        """
        self._task, self._feed, self._name, self._seed = task, feed, name, seed
        for parameter in task.parameters.values():
            parameter.data = parameter.data.clone()  # its alignment in memory is always the same
        self._mixed = self._trains_mixed()
        self.restart()

    def restart(self) -> None:
        """Reset the state of the optimizer."""
        self.optimizer = optimizers.make(self._name, self._task)

    def step(self, rows: list[int], rate: float, key: tuple[int, int]) -> float:
        """Do one step and return the loss before it.

        Args:
            rows: the rows of the dataset in this batch.
            rate: the learning rate.
            key: together with the seed, the seed of the augmentation.

        Raises:
            Astray: the loss or the gradient is not a number; the weights are as before.
            StepFailed: no gradient reaches a weight.
        """
        optimizers.set_rate(self.optimizer, rate)
        loss = self._gradients(rows, np.random.default_rng([self._seed, *key]))
        norm = nn.utils.clip_grad_norm_(self._task.parameters.values(), _GRADIENT_NORM)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise Astray
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def constrain(self, done: float) -> None:
        """Apply the constraint of the task to the weights.

        Args:
            done: the share of the training that is done.
        """
        if self._task.constrain is not None:
            self._task.constrain(done)

    def weights(self) -> Weights:
        """Return a copy of the weights."""
        return {
            name: parameter.detach().clone() for name, parameter in self._task.parameters.items()
        }

    @torch.no_grad()
    def put(self, weights: Mapping[str, Tensor]) -> None:
        """Restore weights that ``weights`` returned."""
        for name, parameter in self._task.parameters.items():
            parameter.copy_(weights[name])

    def _gradients(self, rows: list[int], random: np.random.Generator) -> float:
        """Sum up the gradients of a batch, run by run; return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in self._feed.parts(rows):
            batch = self._feed.batch(part, random)
            with self._precision():
                loss = self._task.loss(self._feed.outputs(self._task.forward, batch), batch)
            if not loss.requires_grad:
                raise StepFailed(
                    "No gradient reaches a weight from the outputs: this model cannot be trained."
                    " Leave 'recover' out."
                )
            share = len(part) / len(rows)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) * share
        return total

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if self._mixed else nullcontext()

    def _trains_mixed(self) -> bool:
        """Return whether products are computed in bfloat16: on a GPU, for a large network."""
        if self._feed.device == "cpu" or self._task.exact:
            return False
        weights = sum(parameter.numel() for parameter in self._task.parameters.values())
        return weights >= MIXED_FROM and torch.cuda.is_bf16_supported()

"""Short trainings from the same start, which find the learning rate of a training."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from app.domain.steps.recover import Optimizer
from workers.compression.learning import optimizers, rates
from workers.compression.learning.finite import no_number, require_number
from workers.compression.learning.plan import Plan
from workers.compression.learning.portions import Portions
from workers.compression.learning.schedules import warm_up_cosine
from workers.compression.learning.stepping import Astray, Stepper
from workers.compression.learning.validation import Validation

TRIAL = 2
"""The stream of random numbers of trials; the training has others."""

_TIME = 0.05
"""The share of the time budget that one trial may take."""
_LENGTHS = {False: (0.03, 10, 200), True: (0.15, 50, 200)}
"""Steps of a trial, by whether the graph is normalised: share of the training, least, most. With a
large rate the loss rises first, so a trial takes longer."""
_LEAST_STEPS = 5
"""The least steps of a trial that says anything."""
_SHORT_TRAINING = 100
"""The most steps of a training for which a trial is as long as the training."""


@dataclass(frozen=True)
class Trials:
    """Tries learning rates; each trial ends with the weights that it began with.

    Attributes:
        stepper: does the steps.
        validation: validates the state after a trial.
        portions: the rows to train on, and those to validate on.
        size: the number of samples of a batch.
        plan: the steps of the training; times of steps and validations are added to it.
        seed: seed of the batches.
    """

    stepper: Stepper
    validation: Validation
    portions: Portions
    size: int
    plan: Plan
    seed: int

    def find_rate(self, optimizer: Optimizer, last_validations: int) -> float:
        """Return the learning rate to train with.

        Args:
            optimizer: the optimizer of the training.
            last_validations: the number of validations after the last step of the training.

        Raises:
            StepFailed: the loss, or its gradient, is not a number before training.
        """
        begin, plan = self.stepper.weights(), self.plan
        self.stepper.constrain(0.0)
        before = self._loss()
        require_number(before, self.validation.feed.samples)
        self.stepper.put(begin)
        minutes, normalised = self.validation.minutes, self.validation.task.normalised
        room = _TIME * minutes.limit
        for _ in range(2):
            self._time_step()
            self.stepper.put(begin)
            if plan.steps.seconds * _LEAST_STEPS > room:
                return optimizers.usual_rate(optimizer)
        plan.fit(minutes, last_validations)
        fits = room / plan.steps.seconds if plan.steps.seconds else math.inf
        if plan.total <= min(_SHORT_TRAINING, fits):
            return rates.best(optimizer, partial(self._loss_after, plan.total))
        share, least, most = _LENGTHS[normalised]
        steps = int(min(max(least, plan.total * share), most, fits))
        find = rates.boldest if normalised else rates.largest
        return find(optimizer, before, partial(self._loss_after, steps))

    def _loss(self) -> float:
        return self.validation.judged(self.portions.choosing, self.plan.judgements).loss

    def _loss_after(self, steps: int, rate: float) -> float:
        """Return the loss after a short training at a rate; infinity where it diverged."""
        begin, loss = self.stepper.weights(), math.inf
        try:
            self._train(steps, rate)
            loss = self._loss()
        except Astray:
            pass
        self.stepper.put(begin)
        return loss

    def _time_step(self) -> None:
        """Time one step at a learning rate of 0, which changes no weight."""
        try:
            self._train(steps=1, rate=0.0)
        except Astray:
            raise no_number(self.validation.feed.samples) from None

    def _train(self, steps: int, rate: float) -> None:
        random = np.random.default_rng([self.seed, TRIAL])
        minutes, training = self.validation.minutes, self.portions.training
        self.stepper.restart()
        for step in range(steps):
            began = minutes.now()
            rows = random.choice(training, min(self.size, len(training)), replace=False).tolist()
            part = rate * warm_up_cosine(step / steps, (step + 1) / steps)
            self.stepper.step(rows, part, (TRIAL, step))
            self.stepper.constrain(0.0)
            self.plan.steps.add(minutes.now() - began)

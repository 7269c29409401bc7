"""The loop of all trainings: steps of an optimizer, the best state kept, a state on disk.

Random numbers are drawn from the seed and the number of the step. So a checkpoint holds no
generator, and a training that was killed and resumed gives the same bits as one that was not (on
the CPU).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.domain.directory import checkpoint_file
from app.domain.problems import StepFailed
from app.domain.steps.recover import Recover
from workers.compression.learning import checkpoint, optimizers, state
from workers.compression.learning.choice import Choice, head_start
from workers.compression.learning.feed import Feed
from workers.compression.learning.finite import not_finite, require_number
from workers.compression.learning.judging import Judgement
from workers.compression.learning.plan import Minutes, Plan
from workers.compression.learning.portions import batch_size, batches, divide
from workers.compression.learning.schedules import warm_up_cosine
from workers.compression.learning.state import State
from workers.compression.learning.stepping import Astray, Stepper
from workers.compression.learning.task import Task
from workers.compression.learning.trials import Trials
from workers.compression.learning.validation import Validation
from workers.compression.progress import Advance
from workers.compression.samples.context import Context

_CHECKPOINT_SECONDS = 2.0
_CHECKPOINT_SHARE = 0.05
"""The share of the time that may be spent on writing checkpoints."""
_SLOWER = 0.1
"""The factor of the learning rate after a training has diverged."""
_ORDER, _AUGMENT = range(2)
"""Streams of random numbers; see ``trials.TRIAL`` for another one."""


def train(
    task: Task,
    feed: Feed,
    settings: Recover,
    context: Context,
    advance: Advance,
    minutes: Minutes | None = None,
    name: str = "training",
) -> None:
    """Train until the epochs or the minutes are over, and leave the best state in the parameters.

    A tenth of the training samples is set aside to choose the best state. The state before
    training is a candidate too, so the result is not worse than the start, except by chance. A
    training resumes from its checkpoint; a finished one is not repeated.

    Args:
        task: the network, its loss and its constraints.
        feed: the samples.
        settings: epochs, minutes, learning rate, optimizer, batch size.
        context: seed, threads, workspace, clock.
        advance: called with the fraction done.
        minutes: the time budget, where part of it is spent already; else a new one starts now.
        name: names the checkpoint, for steps that train more than once.

    Raises:
        StepFailed: no gradient reaches a parameter, or the training diverges twice.
    """
    torch.set_num_threads(context.threads)
    minutes = minutes or Minutes(settings.minutes, context.clock)
    training = _Training(task, feed, settings, context, minutes, name)
    if training.resume():
        return
    while not training.over:
        try:
            training.step()
        except Astray:
            training.restart()
        advance(training.done)
    training.finish()


class _Training:
    """One training: its data, its optimizer, its state."""

    def __init__(
        self,
        task: Task,
        feed: Feed,
        settings: Recover,
        context: Context,
        minutes: Minutes,
        name: str,
    ) -> None:
        self._task, self._settings, self._context, self._minutes = task, settings, context, minutes
        self._portions = divide(feed, context.seed)
        rows = len(self._portions.training)
        self._size = batch_size(feed, settings, rows)
        self._feed = feed if feed.fixed else replace(feed, size=min(feed.size, self._size))
        epoch_steps = math.ceil(rows / self._size)
        self._state = State(Plan(epoch_steps * settings.epochs, epoch_steps))
        self._validation = Validation(task, self._feed, minutes, context.tell)
        self._stepper = Stepper(task, self._feed, settings.optimizer, context.seed)
        self._start_weights = self._best = self._stepper.weights()
        self._batches: tuple[int, Sequence[list[int]]] = (-1, [])
        self._written, self._write_seconds = minutes.now(), 0.0
        self._path = context.workspace and checkpoint_file(context.workspace, name)

    @property
    def done(self) -> float:
        """The share of the training that is done."""
        return self._state.plan.done

    @property
    def over(self) -> bool:
        """Whether all steps are done, or the time is up."""
        return self._state.plan.over or self._minutes.left <= 0

    def resume(self) -> bool:
        """Resume from the checkpoint, else start; return whether the training was finished."""
        stored = checkpoint.load(self._path) if self._path else None
        if stored is None or stored[1].get("of") != self._fingerprint():
            self._start()
            return False
        tensors, facts = stored
        self._context.resumed()
        self._best = checkpoint.part(tensors, "best")
        if facts["finished"]:
            self._stepper.put(self._best)
            return True
        self._stepper.put(checkpoint.part(tensors, "now"))
        optimizers.load_state(self._stepper.optimizer, checkpoint.part(tensors, "moments"))
        self._state = state.read(facts["state"])
        self._minutes.before = facts["seconds"]
        self._portions = self._portions.first(self._state.judged_on)
        if self._state.plan.step:
            self._stepper.constrain(self.done)  # a constraint with a memory gets it back
        return False

    def step(self) -> None:
        """Do one optimizer step; after it validate, replan and write a checkpoint where due."""
        progress, plan, began = self._state, self._state.plan, self._minutes.now()
        rate = progress.rate * warm_up_cosine(plan.done, plan.next_done)
        loss = self._stepper.step(self._batch(), rate, (_AUGMENT, plan.step))
        plan.advance()
        self._stepper.constrain(plan.done)
        plan.steps.add(self._minutes.now() - began)
        progress.losses, progress.summed = progress.losses + loss, progress.summed + 1
        if plan.at_epoch_end:
            self._end_epoch()
        plan.fit(self._minutes, progress.last_validations)
        self._write_if_due()

    def restart(self) -> None:
        """Start again from the best state at a lower rate, once.

        Raises:
            StepFailed: it is the second time.
        """
        progress = self._state
        if progress.slowed:
            why = not_finite(self._feed.samples) or (
                f"the loss is not a number, at {progress.rate:.1e} as learning rate too. Ask for a"
                " lower 'learning_rate', or compress less."
            )
            raise StepFailed(f"Training went astray: {why}")
        self._stepper.put(self._best)
        self._stepper.restart()
        progress.rate, progress.slowed = progress.rate * _SLOWER, True
        progress.losses, progress.summed = 0.0, 0
        progress.plan.restart()
        progress.plan.fit(self._minutes, progress.last_validations)

    def finish(self) -> None:
        """Put the best state into the parameters, and mark the checkpoint as finished."""
        progress = self._state
        if progress.summed:
            self._end_epoch()
        if not progress.choice.made:
            if progress.start is None:
                self._stepper.constrain(1.0)
            self._best = self._stepper.weights() if progress.start is None else self._start_weights
        elif progress.start is not None and not self._beats(progress.start):
            self._best = self._start_weights
        self._stepper.put(self._best)
        if self._path:
            self._write({"best": self._best}, finished=True)

    def _start(self) -> None:
        """Validate the state before training, and choose the learning rate."""
        progress = self._state
        paces = progress.plan.judgements
        affordable = self._validation.affordable(self._portions.choosing, paces)
        self._portions = self._portions.first(affordable)
        progress.judged_on = len(self._portions.choosing)
        if self._task.settled == 0:
            progress.start = self._validate(epoch=0)
            require_number(progress.start.loss, self._feed.samples)
        progress.rate = self._settings.learning_rate or self._find_rate()
        self._stepper.restart()
        progress.plan.fit(self._minutes, progress.last_validations)

    def _find_rate(self) -> float:
        trials = Trials(
            self._stepper, self._validation, self._portions, self._size, self._state.plan,
            self._context.seed,
        )  # fmt: skip
        return trials.find_rate(self._settings.optimizer, self._state.last_validations)

    def _validate(self, epoch: int) -> Judgement:
        """Validate the state on the samples that are set aside, and report the figures."""
        rows, pace = self._portions.choosing, self._state.plan.judgements
        return self._validation.reported(rows, pace, epoch)

    def _end_epoch(self) -> None:
        """Report the loss of an epoch, or of its finished part; validate the state after it."""
        progress = self._state
        self._context.tell("loss", progress.losses / progress.summed, progress.plan.epoch)
        progress.losses, progress.summed = 0.0, 0
        if self.done < self._task.settled:
            return
        judgement = self._validate(progress.plan.epoch)
        if progress.choice.takes(judgement):
            progress.best, self._best = judgement, self._stepper.weights()

    def _beats(self, start: Judgement) -> bool:
        """Return whether the best trained state is better than the one before training.

        The model may have been trained on this very dataset, so the state before training may have
        memorised the validation samples. The trained state has memorised its training samples
        only. The gap between its figures on training and on validation samples estimates that
        advantage, and the state before training has to win by more than that.
        """
        best = self._state.best
        assert best is not None, "a trained state was kept"
        if _is_better(best, start, 0.0):
            return True
        self._stepper.put(self._best)
        rows, pace = self._portions.comparing, self._state.plan.judgements
        on_training_samples = self._validation.judged(rows, pace)
        return _is_better(best, start, head_start(on_training_samples, best))

    def _batch(self) -> list[int]:
        """Return the rows of the next batch."""
        epoch, place = divmod(self._state.plan.step, self._state.plan.epoch_steps)
        if self._batches[0] != epoch:
            random = np.random.default_rng([self._context.seed, _ORDER, epoch])
            rows = self._portions.training
            shuffled = [rows[i] for i in random.permutation(len(rows))]
            self._batches = epoch, batches(self._feed, shuffled, self._size)
        return self._batches[1][place]

    def _write_if_due(self) -> None:
        """Write a checkpoint if one is due; the longer writing takes, the rarer it is."""
        began = self._minutes.now()
        pause = max(_CHECKPOINT_SECONDS, self._write_seconds / _CHECKPOINT_SHARE)
        if self._path is None or began - self._written < pause:
            return
        now, moments = self._task.parameters, optimizers.state_tensors(self._stepper.optimizer)
        self._write({"best": self._best, "now": now, "moments": moments}, finished=False)
        self._written = self._minutes.now()
        self._write_seconds = self._written - began

    def _write(self, parts: Mapping[str, Mapping[str, Tensor]], *, finished: bool) -> None:
        assert self._path is not None
        facts = {
            "of": self._fingerprint(),
            "state": asdict(self._state),
            "seconds": self._minutes.spent,
            "finished": finished,
        }
        checkpoint.save(self._path, parts, facts)

    def _fingerprint(self) -> list[Any]:
        """Return the arguments of the training; a checkpoint of other arguments is not used."""
        shapes = [[name, *parameter.shape] for name, parameter in self._task.parameters.items()]
        return [self._settings.model_dump(mode="json"), self._context.seed, self._size, shapes]


def _is_better(trained: Judgement, start: Judgement, head_start: float) -> bool:
    choice = Choice()
    choice.takes(start, head_start)
    return choice.takes(trained)

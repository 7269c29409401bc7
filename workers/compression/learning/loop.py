"""The loop of all trainings: steps of an optimizer, the best state kept, a state on disk.

Random numbers are drawn from the seed and the number of the step. So a checkpoint holds no
generator, and a training that was killed and resumed gives the same bits as one that was not (on
the CPU).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.domain.directory import checkpoint_file
from app.domain.problems import StepFailed
from app.domain.steps.recover import Recover
from workers.compression.learning import checkpoint, optimizers, rates
from workers.compression.learning.choice import Choice, head_start
from workers.compression.learning.feed import Feed
from workers.compression.learning.finite import not_finite
from workers.compression.learning.judging import Judgement, judge
from workers.compression.learning.plan import Minutes, Pace, Plan
from workers.compression.learning.portions import batch_size, divide
from workers.compression.learning.schedules import warm_up_cosine
from workers.compression.learning.stepping import Astray, Stepper
from workers.compression.learning.task import Task
from workers.compression.samples.context import Context

Advance = Callable[[float], None]

_CHECKPOINT_SECONDS = 2.0
_CHECKPOINT_SHARE = 0.05
"""The share of the time that may be spent on writing checkpoints."""
_SLOWER = 0.1
"""The factor of the learning rate after a training has diverged."""
_JUDGEMENT_SHARE = 0.05
"""The share of the time budget that one validation may take."""
_TRIAL_TIME = 0.05
"""The share of the time budget that one trial of a learning rate may take."""
_TRIALS = {False: (0.03, 10, 200), True: (0.15, 50, 200)}
"""Steps of a trial, by whether the graph is normalised: share of the training, least, most. With a
large rate the loss rises first, so a trial takes longer."""
_LEAST_TRIAL = 5
"""The least steps of a trial that says anything."""
_SHORT_TRAINING = 100
"""The most steps of a training for which a trial is as long as the training."""
_ORDER, _AUGMENT, _TRIAL = range(3)
"""Streams of random numbers."""


@dataclass
class _State:
    """The progress of a training: everything of its checkpoint but the tensors."""

    plan: Plan
    rate: float = 0.0
    """The peak of the learning rate."""
    slowed: bool = False
    """Whether the training diverged once and was restarted at a lower rate."""
    start: Judgement | None = None
    """The validation of the state before training; None where that state may not be kept."""
    choice: Choice = field(default_factory=Choice)
    """The choice among the trained states."""
    best: Judgement | None = None
    """The validation of the best trained state."""
    judged_on: int = 0
    """The number of validation samples."""
    losses: float = 0.0
    """The sum of the losses of the steps since the last epoch ended."""
    summed: int = 0
    """The number of steps in that sum."""


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
        self._state = _State(Plan(epoch_steps * settings.epochs, epoch_steps))
        self._stepper = Stepper(task, self._feed, settings.optimizer, context.seed)
        self._start_weights = self._best = self._stepper.weights()
        self._order: tuple[int, Sequence[int]] = (-1, [])
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
        self._best = checkpoint.part(tensors, "best")
        if facts["finished"]:
            self._stepper.put(self._best)
            return True
        self._stepper.put(checkpoint.part(tensors, "now"))
        optimizers.load_state(self._stepper.optimizer, checkpoint.part(tensors, "moments"))
        self._state = _read(facts["state"])
        self._minutes.before = facts["seconds"]
        self._portions = self._portions.first(self._state.judged_on)
        if self._state.plan.step:
            self._stepper.constrain(self.done)  # a constraint with a memory gets it back
        return False

    def step(self) -> None:
        """Do one optimizer step; after it validate, replan and write a checkpoint where due."""
        state, plan, began = self._state, self._state.plan, self._minutes.now()
        rate = state.rate * warm_up_cosine(plan.done, plan.next_done)
        loss = self._stepper.step(self._batch(), rate, (_AUGMENT, plan.step))
        plan.advance()
        self._stepper.constrain(plan.done)
        plan.steps.add(self._minutes.now() - began)
        state.losses, state.summed = state.losses + loss, state.summed + 1
        if plan.at_epoch_end:
            self._end_epoch()
        plan.fit(self._minutes, self._remaining_validations)
        self._write_if_due()

    def restart(self) -> None:
        """Start again from the best state at a lower rate, once.

        Raises:
            StepFailed: it is the second time.
        """
        state = self._state
        if state.slowed:
            why = not_finite(self._feed.samples) or (
                f"the loss is not a number, at {state.rate:.1e} as learning rate too. Ask for a"
                " lower 'learning_rate', or compress less."
            )
            raise StepFailed(f"Training went astray: {why}")
        self._stepper.put(self._best)
        self._stepper.restart()
        state.rate, state.slowed = state.rate * _SLOWER, True
        state.losses, state.summed = 0.0, 0
        state.plan.restart()
        state.plan.fit(self._minutes, self._remaining_validations)

    def finish(self) -> None:
        """Put the best state into the parameters, and mark the checkpoint as finished."""
        state = self._state
        if state.summed:
            self._end_epoch()
        if not state.choice.made:
            if state.start is None:
                self._stepper.constrain(1.0)
            self._best = self._stepper.weights() if state.start is None else self._start_weights
        elif state.start is not None and not self._beats(state.start):
            self._best = self._start_weights
        self._stepper.put(self._best)
        if self._path:
            self._write({"best": self._best}, finished=True)

    @property
    def _remaining_validations(self) -> int:
        """The largest number of validations after the last step; see ``_beats``."""
        return 1 if self._state.start is None else 2

    def _start(self) -> None:
        """Validate the state before training, and choose the learning rate."""
        state = self._state
        self._portions = self._portions.first(self._affordable_samples())
        state.judged_on = len(self._portions.choosing)
        if self._task.settled == 0:
            state.start = self._validate(epoch=0)
            self._require_number(state.start.loss)
        state.rate = self._settings.learning_rate or self._find_rate()
        self._stepper.restart()
        state.plan.fit(self._minutes, self._remaining_validations)

    def _affordable_samples(self) -> int:
        """Return how many samples a validation may use to take only a small part of the time."""
        rows = next(self._feed.parts(self._portions.choosing))
        for _ in range(2):  # the first run is slower
            began = self._minutes.now()
            judge(self._task, self._feed, rows)
        seconds = (self._minutes.now() - began) / len(rows)
        count, room = len(self._portions.choosing), _JUDGEMENT_SHARE * self._minutes.limit
        if seconds * count > room:
            count = max(len(rows), int(room / seconds))
        self._state.plan.judgements.add(seconds * count)
        return count

    def _find_rate(self) -> float:
        """Try learning rates by short trainings from the start; return the one to train with."""
        begin, plan = self._stepper.weights(), self._state.plan
        self._stepper.constrain(0.0)
        before = self._validated(self._portions.choosing).loss
        self._require_number(before)
        self._stepper.put(begin)
        room = _TRIAL_TIME * self._minutes.limit
        for _ in range(2):
            self._time_step()
            self._stepper.put(begin)
            if plan.steps.seconds * _LEAST_TRIAL > room:
                return optimizers.usual_rate(self._settings.optimizer)
        plan.fit(self._minutes, self._remaining_validations)
        fits = room / plan.steps.seconds if plan.steps.seconds else math.inf
        if plan.total <= min(_SHORT_TRAINING, fits):
            return rates.best(self._settings.optimizer, partial(self._trial, plan.total))
        share, least, most = _TRIALS[self._task.normalised]
        steps = int(min(max(least, plan.total * share), most, fits))
        find = rates.boldest if self._task.normalised else rates.largest
        return find(self._settings.optimizer, before, partial(self._trial, steps))

    def _trial(self, steps: int, rate: float) -> float:
        """Return the loss after a short training at a rate; the weights are restored."""
        begin, loss = self._stepper.weights(), math.inf
        try:
            self._train_briefly(steps, rate)
            loss = self._validated(self._portions.choosing).loss
        except Astray:
            pass
        self._stepper.put(begin)
        return loss

    def _time_step(self) -> None:
        """Time one step at a learning rate of 0, which changes no weight.

        Raises:
            StepFailed: its loss or gradient is not a number.
        """
        try:
            self._train_briefly(steps=1, rate=0.0)
        except Astray:
            raise self._not_a_number() from None

    def _require_number(self, loss: float) -> None:
        """Raise StepFailed if the loss before training is not a number."""
        if not math.isfinite(loss):
            raise self._not_a_number()

    def _not_a_number(self) -> StepFailed:
        why = not_finite(self._feed.samples) or (
            "the data are finite, so NaN or infinity arises in the model or in its teacher. Leave"
            " training out, or take samples on which that happens out of the dataset."
        )
        return StepFailed(f"The loss, or its gradient, is not a number before training: {why}")

    def _train_briefly(self, steps: int, rate: float) -> None:
        random = np.random.default_rng([self._context.seed, _TRIAL])
        self._stepper.restart()
        for step in range(steps):
            began = self._minutes.now()
            rows = random.choice(self._portions.training, self._size, replace=False).tolist()
            part = rate * warm_up_cosine(step / steps, (step + 1) / steps)
            self._stepper.step(rows, part, (_TRIAL, step))
            self._stepper.constrain(0.0)
            self._state.plan.steps.add(self._minutes.now() - began)

    def _end_epoch(self) -> None:
        """Report the loss of an epoch, or of its finished part; validate the state after it."""
        state = self._state
        self._context.tell("loss", state.losses / state.summed, state.plan.epoch)
        state.losses, state.summed = 0.0, 0
        if self.done < self._task.settled:
            return
        judgement = self._validate(state.plan.epoch)
        if state.choice.takes(judgement):
            state.best, self._best = judgement, self._stepper.weights()

    def _validate(self, epoch: int) -> Judgement:
        """Validate the state on the samples that are set aside, and report the figures."""
        judgement = self._validated(self._portions.choosing)
        self._context.tell("validation_loss", judgement.loss, epoch)
        if judgement.figure is not None:
            self._context.tell(f"validation_{judgement.metric}", judgement.figure, epoch)
        return judgement

    def _validated(self, rows: list[int]) -> Judgement:
        began = self._minutes.now()
        judgement = judge(self._task, self._feed, rows)
        self._state.plan.judgements.add(self._minutes.now() - began)
        return judgement

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
        on_training_samples = self._validated(self._portions.comparing)
        return _is_better(best, start, head_start(on_training_samples, best))

    def _batch(self) -> list[int]:
        """Return the rows of the next batch."""
        epoch, place = divmod(self._state.plan.step, self._state.plan.epoch_steps)
        if self._order[0] != epoch:
            random = np.random.default_rng([self._context.seed, _ORDER, epoch])
            rows = self._portions.training
            self._order = epoch, [rows[i] for i in random.permutation(len(rows))]
        return list(self._order[1][place * self._size : (place + 1) * self._size])

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


def _read(facts: Mapping[str, Any]) -> _State:
    """Return the progress that a checkpoint holds."""
    plan = facts["plan"]
    paces = {name: Pace(**plan[name]) for name in ("steps", "judgements")}
    parts = {
        "plan": Plan(**{**plan, **paces}),
        "choice": Choice(**facts["choice"]),
        **{name: facts[name] and Judgement(**facts[name]) for name in ("start", "best")},
    }
    return _State(**{**facts, **parts})

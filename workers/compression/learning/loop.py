"""The loop of all trainings: steps of an optimizer, the best state kept, a state on disk.

Everything random is drawn from the seed and the number of the step, so that a state holds no
generator, and a training that was killed ends with the same bits as one that was not (on the CPU).
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
"""The share of the time that may go into writing states."""
_SLOWER = 0.1
"""Times the learning rate, after a training went astray."""
_JUDGEMENT_SHARE = 0.05
"""Share of the minutes that one judgement may take."""
_TRIAL_TIME = 0.05
"""Share of the minutes that one trial of a learning rate may take."""
_TRIALS = {False: (0.03, 10, 200), True: (0.15, 50, 200)}
"""Steps of a trial: a share of all, at least, at most; more where weights bear a large rate, which
has to repair first what it breaks."""
_LEAST_TRIAL = 5
"""Steps; fewer say nothing."""
_SHORT = 100
"""Steps of a training that is tried as a whole."""
_ORDER, _AUGMENT, _TRIAL = range(3)
"""Streams of random numbers."""


@dataclass
class _State:
    """Where a training stands, besides its tensors."""

    plan: Plan
    rate: float = 0.0
    """The peak of the learning rate."""
    slowed: bool = False
    """It went astray, and started again."""
    start: Judgement | None = None
    """What was said of the state before training, where it competes."""
    choice: Choice = field(default_factory=Choice)
    """Among the trained states."""
    best: Judgement | None = None
    """What was said of the best trained state."""
    judged_on: int = 0
    """The number of samples that judge."""
    losses: float = 0.0
    """The sum over the steps since an epoch ended."""
    summed: int = 0
    """The number of these steps."""


def train(
    task: Task,
    feed: Feed,
    wish: Recover,
    context: Context,
    advance: Advance,
    minutes: Minutes | None = None,
    name: str = "training",
) -> None:
    """Train until the epochs or the minutes are over, and leave the best state in the parameters.

    A tenth of the training samples is set aside to choose the best state. The state before training
    competes: the result is not worse than what was given, but by chance. A state on disk is gone on
    from, also a finished one.

    Args:
        task: what is trained.
        feed: its samples.
        wish: epochs, minutes, learning rate, optimizer, batch size.
        context: seed, threads, workspace, clock.
        advance: called with the fraction done.
        minutes: the time, where some of it was spent before; else it starts now.
        name: of the state on disk, for steps that train more than once.

    Raises:
        StepFailed: no gradient reaches a parameter, or training goes astray twice.
    """
    torch.set_num_threads(context.threads)
    minutes = minutes or Minutes(wish.minutes, context.clock)
    training = _Training(task, feed, wish, context, minutes, name)
    if training.resume():
        return
    while not training.over:
        try:
            training.step()
        except Astray:
            training.again()
        advance(training.done)
    training.finish()


class _Training:
    """One training: its data, its optimizer, its state."""

    def __init__(
        self, task: Task, feed: Feed, wish: Recover, context: Context, minutes: Minutes, name: str
    ) -> None:
        self._task, self._wish, self._context, self._minutes = task, wish, context, minutes
        self._portions = divide(feed, context.seed)
        rows = len(self._portions.training)
        self._size = batch_size(feed, wish, rows)
        self._feed = feed if feed.fixed else replace(feed, size=min(feed.size, self._size))
        epoch_steps = math.ceil(rows / self._size)
        self._state = _State(Plan(epoch_steps * wish.epochs, epoch_steps))
        self._stepper = Stepper(task, self._feed, wish.optimizer, context.seed)
        self._begin = self._best = self._stepper.weights()
        self._order: tuple[int, Sequence[int]] = (-1, [])
        self._written, self._write_seconds = minutes.now(), 0.0
        self._path = context.workspace and checkpoint_file(context.workspace, name)

    @property
    def done(self) -> float:
        """The share of the training that is done."""
        return self._state.plan.done

    @property
    def over(self) -> bool:
        """Whether all steps are done, or the time is over."""
        return self._state.plan.over or self._minutes.left <= 0

    def resume(self) -> bool:
        """Go on from a state on disk, else start; return whether it was finished."""
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
        optimizers.load_moments(self._stepper.optimizer, checkpoint.part(tensors, "moments"))
        self._state = _read(facts["state"])
        self._minutes.before = facts["seconds"]
        self._portions = self._portions.first(self._state.judged_on)
        if self._state.plan.step:
            self._stepper.constrain(self.done)  # a constraint with a memory gets it back
        return False

    def step(self) -> None:
        """Do one step of the optimizer, and what is due after it."""
        state, plan, began = self._state, self._state.plan, self._minutes.now()
        rate = state.rate * warm_up_cosine(plan.done, plan.next_done)
        loss = self._stepper.step(self._batch(), rate, (_AUGMENT, plan.step))
        plan.advance()
        self._stepper.constrain(plan.done)
        plan.steps.add(self._minutes.now() - began)
        state.losses, state.summed = state.losses + loss, state.summed + 1
        if plan.at_epoch_end:
            self._end_epoch()
        plan.fit(self._minutes, self._still_to_judge)
        self._write_if_due()

    def again(self) -> None:
        """Start again from the best state at a lower rate, once.

        Raises:
            StepFailed: it went astray before.
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
        state.plan.fit(self._minutes, self._still_to_judge)

    def finish(self) -> None:
        """Leave the best state in the parameters, and on disk as finished."""
        state = self._state
        if state.summed:
            self._end_epoch()
        if not state.choice.made:
            if state.start is None:
                self._stepper.constrain(1.0)
            self._best = self._stepper.weights() if state.start is None else self._begin
        elif state.start is not None and not self._beats(state.start):
            self._best = self._begin
        self._stepper.put(self._best)
        if self._path:
            self._write({"best": self._best}, finished=True)

    @property
    def _still_to_judge(self) -> int:
        """How often states are judged after the last step, at most; see ``_beats``."""
        return 1 if self._state.start is None else 2

    def _start(self) -> None:
        """Judge the state before training, and choose the learning rate."""
        state = self._state
        self._portions = self._portions.first(self._affordable())
        state.judged_on = len(self._portions.choosing)
        if self._task.settled == 0:
            state.start = self._judge(epoch=0)
            self._require_number(state.start.loss)
        state.rate = self._wish.learning_rate or self._find_rate()
        self._stepper.restart()
        state.plan.fit(self._minutes, self._still_to_judge)

    def _affordable(self) -> int:
        """Return how many samples a judgement may take, so that it takes little of the minutes."""
        rows = next(self._feed.parts(self._portions.choosing))
        for _ in range(2):  # the first run is slower than others
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
        before = self._judged(self._portions.choosing).loss
        self._require_number(before)
        self._stepper.put(begin)
        room = _TRIAL_TIME * self._minutes.limit
        for _ in range(2):
            self._rehearse_pace()
            self._stepper.put(begin)
            if plan.steps.seconds * _LEAST_TRIAL > room:
                return optimizers.usual_rate(self._wish.optimizer)
        plan.fit(self._minutes, self._still_to_judge)
        fits = room / plan.steps.seconds if plan.steps.seconds else math.inf
        if plan.total <= min(_SHORT, fits):
            return rates.best(self._wish.optimizer, partial(self._trial, plan.total))
        share, least, most = _TRIALS[self._task.normalised]
        steps = int(min(max(least, plan.total * share), most, fits))
        find = rates.boldest if self._task.normalised else rates.largest
        return find(self._wish.optimizer, before, partial(self._trial, steps))

    def _trial(self, steps: int, rate: float) -> float:
        """Return the loss after a short training at a rate, and take it back."""
        begin, loss = self._stepper.weights(), math.inf
        try:
            self._rehearse(steps, rate)
            loss = self._judged(self._portions.choosing).loss
        except Astray:
            pass
        self._stepper.put(begin)
        return loss

    def _rehearse_pace(self) -> None:
        """Do a step that changes no weight, to know how long one takes.

        Raises:
            StepFailed: its loss or gradient is not a number.
        """
        try:
            self._rehearse(steps=1, rate=0.0)
        except Astray:
            raise self._without_number() from None

    def _require_number(self, loss: float) -> None:
        """Raise StepFailed if the loss before training is not a number."""
        if not math.isfinite(loss):
            raise self._without_number()

    def _without_number(self) -> StepFailed:
        why = not_finite(self._feed.samples) or (
            "the data are finite, so NaN or infinity arises in the model or in its teacher. Leave"
            " training out, or take samples on which that happens out of the dataset."
        )
        return StepFailed(f"The loss, or its gradient, is not a number before training: {why}")

    def _rehearse(self, steps: int, rate: float) -> None:
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
        """Tell the loss of an epoch, or of the part that is done; judge the state after it."""
        state = self._state
        self._context.tell("loss", state.losses / state.summed, state.plan.epoch)
        state.losses, state.summed = 0.0, 0
        if self.done < self._task.settled:
            return
        judgement = self._judge(state.plan.epoch)
        if state.choice.takes(judgement):
            state.best, self._best = judgement, self._stepper.weights()

    def _judge(self, epoch: int) -> Judgement:
        """Judge the state on the samples that are set aside, and tell it."""
        judgement = self._judged(self._portions.choosing)
        self._context.tell("validation_loss", judgement.loss, epoch)
        if judgement.figure is not None:
            self._context.tell(f"validation_{judgement.metric}", judgement.figure, epoch)
        return judgement

    def _judged(self, rows: list[int]) -> Judgement:
        began = self._minutes.now()
        judgement = judge(self._task, self._feed, rows)
        self._state.plan.judgements.add(self._minutes.now() - began)
        return judgement

    def _beats(self, start: Judgement) -> bool:
        """Return whether the best trained state is better than the one before training.

        What the original was made with, it may answer by heart, and so may what a step has made of
        it: perhaps all samples here. The best trained state knows those that it was trained on. By
        as much as it answers these better than others, the state before training has to be better.
        """
        best = self._state.best
        assert best is not None, "a trained state was kept"
        if _is_better(best, start, 0.0):
            return True
        self._stepper.put(self._best)
        trained_on = self._judged(self._portions.comparing)
        return _is_better(best, start, head_start(trained_on, best))

    def _batch(self) -> list[int]:
        """Return the rows of the next step."""
        epoch, place = divmod(self._state.plan.step, self._state.plan.epoch_steps)
        if self._order[0] != epoch:
            random = np.random.default_rng([self._context.seed, _ORDER, epoch])
            rows = self._portions.training
            self._order = epoch, [rows[i] for i in random.permutation(len(rows))]
        return list(self._order[1][place * self._size : (place + 1) * self._size])

    def _write_if_due(self) -> None:
        """Write the state from time to time, the less often the longer it takes."""
        began = self._minutes.now()
        pause = max(_CHECKPOINT_SECONDS, self._write_seconds / _CHECKPOINT_SHARE)
        if self._path is None or began - self._written < pause:
            return
        now, moments = self._task.parameters, optimizers.moments(self._stepper.optimizer)
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
        """Return what a state on disk must have been made with."""
        shapes = [[name, *each.shape] for name, each in self._task.parameters.items()]
        return [self._wish.model_dump(mode="json"), self._context.seed, self._size, shapes]


def _is_better(trained: Judgement, start: Judgement, head_start: float) -> bool:
    choice = Choice()
    choice.takes(start, head_start)
    return choice.takes(trained)


def _read(facts: Mapping[str, Any]) -> _State:
    """Return a state as it was written."""
    plan = facts["plan"]
    paces = {name: Pace(**plan[name]) for name in ("steps", "judgements")}
    parts = {
        "plan": Plan(**{**plan, **paces}),
        "choice": Choice(**facts["choice"]),
        **{name: facts[name] and Judgement(**facts[name]) for name in ("start", "best")},
    }
    return _State(**{**facts, **parts})

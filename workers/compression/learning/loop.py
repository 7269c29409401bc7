"""The loop: steps of an optimizer, the best state kept, and a state on disk to go on from.

Everything random is drawn from the seed and the number of the step, so that a state holds no
generator, and a training that was killed ends with the same bits as one that was not (on the CPU).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.domain.directory import checkpoint_file
from app.domain.problems import StepFailed
from app.domain.steps.recover import Recover
from workers.compression.learning import checkpoint, optimizers
from workers.compression.learning.choice import Choice
from workers.compression.learning.feed import Feed
from workers.compression.learning.portions import batch_size, divide
from workers.compression.learning.schedules import warm_up_cosine
from workers.compression.learning.task import Task
from workers.compression.samples.context import Context

Advance = Callable[[float], None]

_CHECKPOINT_SECONDS = 2.0
_CHECKPOINT_SHARE = 0.05
"""Of the time may go into writing states."""
_GRADIENT_NORM = 1.0
_SLOWER = 0.1
"""Of the learning rate, after a training went astray."""
_PACE_STEPS = 8
_HEADROOM = 0.95
"""Of the minutes are planned; the rest is for the pace's noise."""
_TRIAL_SHARE = 0.03
_TRIAL_STEPS = (10, 200)
"""Of a trial of a learning rate: a share of all steps, in these bounds."""
_TRIAL_TIME = 0.05
"""The share of the minutes that one trial may take."""
_ORDER, _AUGMENT, _TRIAL = range(3)
"""Streams of random numbers."""


@dataclass
class _State:
    """Where a training stands, besides its tensors."""

    total: int
    """Steps in all."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    rate: float = 0.0
    """The peak of the learning rate."""
    slowed: bool = False
    """It went astray, and started again."""
    choice: Choice = field(default_factory=Choice)
    recent: float = math.inf
    """The least loss of an epoch; the state before training is no bar to them."""
    stale: int = 0
    """Epochs since then."""
    loss: float = 0.0
    """Summed up over the steps of this epoch."""


class _Astray(Exception):  # noqa: N818 (caught here)
    """A loss or a gradient is no number."""


def train(
    task: Task,
    feed: Feed,
    wish: Recover,
    context: Context,
    advance: Advance,
    name: str = "training",
) -> None:
    """Train until the epochs or the minutes are over, or nothing gets better; keep the best state.

    A tenth of the training samples is set aside to choose the best state, the one before training
    included: the result is not worse on them than what was given, but by chance. A state on disk is
    gone on from, also a finished one.

    Args:
        task: what is trained.
        feed: its samples.
        wish: epochs, minutes, learning rate, optimizer, batch size.
        context: seed, threads, workspace.
        advance: told the fraction done.
        name: of the state on disk, for steps that train more than once.

    Raises:
        StepFailed: no gradient reaches a parameter, or training goes astray twice.
    """
    torch.set_num_threads(context.threads)
    training = _Training(task, feed, wish, context, name)
    if training.resume():
        return
    while not training.over():
        try:
            training.step()
        except _Astray:
            training.again()
        advance(training.done)
    training.finish()


class _Training:
    """One training: its data, its optimizer, its state."""

    def __init__(self, task: Task, feed: Feed, wish: Recover, context: Context, name: str) -> None:
        self._task, self._wish, self._context = task, wish, context
        self._rows, self._validation = divide(feed, context.seed)
        self._size = batch_size(feed, wish, len(self._rows))
        self._feed = feed if feed.fixed else replace(feed, size=min(feed.size, self._size))
        self._epoch_steps = math.ceil(len(self._rows) / self._size)
        self._state = _State(total=self._epoch_steps * wish.epochs)
        for parameter in task.parameters.values():
            parameter.data = parameter.data.clone()  # where it lies depends on nothing else
        self._best = self._copy()
        self._optimizer = optimizers.make(wish.optimizer, task)
        self._order: tuple[int, Sequence[int]] = (-1, [])
        self._clock = time.monotonic()
        self._written, self._write_seconds = self._clock, 0.0
        self._path = context.workspace and checkpoint_file(context.workspace, name)

    @property
    def done(self) -> float:
        """The share of the steps that is done."""
        return self._state.step / self._state.total

    def resume(self) -> bool:
        """Go on from a state on disk, else start; return whether it was finished."""
        found = checkpoint.load(self._path) if self._path else None
        if found is None or found[1].get("of") != self._fingerprint():
            self._start()
            return False
        tensors, facts = found
        self._best = checkpoint.part(tensors, "best")
        if facts["finished"]:
            self._put(self._best)
            return True
        self._put(checkpoint.part(tensors, "now"))
        optimizers.load_moments(self._optimizer, checkpoint.part(tensors, "moments"))
        state = facts["state"]
        self._state = _State(**state | {"choice": Choice(**state["choice"])})
        if self._state.step:
            self._constrain(self.done)  # a constraint with a memory gets it back
        return False

    def over(self) -> bool:
        """Return whether there is nothing left to do."""
        state = self._state
        patience = max(5, self._wish.epochs // 2)
        stale = self._task.settled == 0 and state.stale >= patience
        return state.step >= state.total or stale or self._seconds() >= self._wish.minutes * 60

    def step(self) -> None:
        """Do one step of the optimizer, and what is due after it."""
        state = self._state
        rate = state.rate * warm_up_cosine(state.step, state.total)
        loss = self._update(self._batch(), rate, (_AUGMENT, state.step))
        state.step += 1
        state.loss += loss
        self._constrain(self.done)
        ended = state.step % self._epoch_steps == 0 or state.step == state.total
        if ended:
            self._epoch_ends()
        if ended or state.step == _PACE_STEPS:
            self._plan()
        self._write_if_due()

    def again(self) -> None:
        """Start again from the best state at a lower rate, once.

        Raises:
            StepFailed: it went astray before.
        """
        state = self._state
        if state.slowed:
            raise StepFailed(
                f"Training went astray: the loss is not a number, at {state.rate:.1e} as learning"
                " rate too. Ask for a lower 'learning_rate', or compress less."
            )
        self._put(self._best)
        self._optimizer = optimizers.make(self._wish.optimizer, self._task)
        self._state = replace(
            state,
            step=0,
            rate=state.rate * _SLOWER,
            slowed=True,
            recent=math.inf,
            stale=0,
            loss=0.0,
        )

    def finish(self) -> None:
        """Leave the best state in the parameters, and on disk as finished."""
        if not self._state.choice.made:
            self._constrain(1.0)
            self._best = self._copy()
        self._put(self._best)
        if self._path:
            self._write({"best": self._best}, finished=True)

    def _start(self) -> None:
        """Judge the state before training, and choose the learning rate."""
        if self._task.settled == 0:
            self._judge(epoch=0)
        self._state.rate = self._wish.learning_rate or self._found_rate()
        self._optimizer = optimizers.make(self._wish.optimizer, self._task)

    def _found_rate(self) -> float:
        name = self._wish.optimizer
        known = optimizers.rewound(name, self._state.total) if self._task.normalised else None
        return known or optimizers.find_rate(name, self._held(), self._trial)

    def _held(self) -> float:
        """Return the loss before training, with weights where they must be."""
        start = self._copy()
        self._constrain(0.0)
        loss = self._validated()[0]
        self._put(start)
        return loss

    def _trial(self, rate: float) -> float:
        """Return the loss after a few steps at a rate, from the start and back to it."""
        self._optimizer = optimizers.make(self._wish.optimizer, self._task)
        low, high = _TRIAL_STEPS
        steps = min(max(low, round(self._state.total * _TRIAL_SHARE)), high)
        random = np.random.default_rng([self._context.seed, _TRIAL])
        start, loss = self._copy(), math.inf
        until = time.monotonic() + self._wish.minutes * 60 * _TRIAL_TIME
        try:
            for step in range(steps):
                if time.monotonic() > until:
                    break
                rows = random.choice(self._rows, self._size, replace=False).tolist()
                self._update(rows, rate * warm_up_cosine(step, steps), (_TRIAL, step))
                self._constrain(0.0)
            loss = self._validated()[0]
        except _Astray:
            pass
        self._put(start)
        return loss

    def _update(self, rows: list[int], rate: float, key: tuple[int, int]) -> float:
        """Do one step of the optimizer; return the loss before it."""
        optimizers.set_rate(self._optimizer, rate)
        loss = self._gradients(rows, np.random.default_rng([self._context.seed, *key]))
        norm = nn.utils.clip_grad_norm_(self._task.parameters.values(), _GRADIENT_NORM)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise _Astray
        self._optimizer.step()
        return loss

    def _gradients(self, rows: list[int], random: np.random.Generator) -> float:
        """Sum up the gradients of a batch, run by run; return its loss."""
        self._optimizer.zero_grad(set_to_none=True)
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

    def _epoch_ends(self) -> None:
        state = self._state
        epoch = math.ceil(state.step / self._epoch_steps)
        steps = (state.step - 1) % self._epoch_steps + 1
        self._context.tell("loss", state.loss / steps, epoch)
        state.loss = 0.0
        if self.done >= self._task.settled:
            self._judge(epoch)

    def _judge(self, epoch: int) -> None:
        """Judge the state on the samples that are set aside, and keep it if it is the best."""
        state, metric, yardstick = self._state, None, self._task.yardstick
        loss, figure = self._validated()
        self._context.tell("validation_loss", loss, epoch)
        if figure is not None and yardstick is not None:
            metric = yardstick.kind, figure
            self._context.tell(f"validation_{yardstick.metric}", figure, epoch)
        if metric is not None and epoch == 0:
            metric = metric[0], metric[1] - self._task.head_start
        if state.choice.takes(loss, metric, len(self._validation)):
            self._best = self._copy()
        state.stale += 1
        if epoch and loss < state.recent:
            state.recent, state.stale = loss, 0

    @torch.no_grad()
    def _validated(self) -> tuple[float, float | None]:
        """Return loss and metric on the samples that are set aside."""
        yardstick = self._task.yardstick
        score = None if yardstick is None else yardstick.score()
        total = 0.0
        for part in self._feed.parts(self._validation):
            batch = self._feed.batch(part)
            outputs = self._feed.outputs(self._task.forward, batch)
            total += float(self._task.loss(outputs, batch)) * len(part)
            if score is None or batch.targets is None:
                continue
            answers = {name: each.cpu().numpy() for name, each in outputs.items()}
            for index, target in enumerate(batch.targets.cpu().numpy()):
                score.add({n: each[index : index + 1] for n, each in answers.items()}, target)
        return total / len(self._validation), None if score is None else score.value

    def _plan(self) -> None:
        """Do fewer steps where the pace so far would not fit them into the minutes."""
        state = self._state
        pace = self._seconds() / state.step
        fits = int(self._wish.minutes * 60 * _HEADROOM / pace)
        if fits < state.total:
            state.total = max(fits, state.step)

    def _batch(self) -> list[int]:
        """Return the rows of the next step."""
        epoch, place = divmod(self._state.step, self._epoch_steps)
        if self._order[0] != epoch:
            random = np.random.default_rng([self._context.seed, _ORDER, epoch])
            self._order = epoch, [self._rows[i] for i in random.permutation(len(self._rows))]
        return list(self._order[1][place * self._size : (place + 1) * self._size])

    @torch.no_grad()
    def _constrain(self, done: float) -> None:
        if self._task.constrain is not None:
            self._task.constrain(done)

    def _precision(self) -> AbstractContextManager[Any]:
        if self._feed.device == "cpu" or self._task.exact or not torch.cuda.is_bf16_supported():
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)

    def _seconds(self) -> float:
        return self._state.seconds + time.monotonic() - self._clock

    def _copy(self) -> dict[str, Tensor]:
        return {name: each.detach().clone() for name, each in self._task.parameters.items()}

    @torch.no_grad()
    def _put(self, state: Mapping[str, Tensor]) -> None:
        for name, parameter in self._task.parameters.items():
            parameter.copy_(state[name])

    def _write_if_due(self) -> None:
        """Write the state from time to time, the less often the longer it takes."""
        began = time.monotonic()
        pause = max(_CHECKPOINT_SECONDS, self._write_seconds / _CHECKPOINT_SHARE)
        if self._path is None or began - self._written < pause:
            return
        moments = optimizers.moments(self._optimizer)
        self._write(
            {"best": self._best, "now": self._task.parameters, "moments": moments}, finished=False
        )
        self._written = time.monotonic()
        self._write_seconds = self._written - began

    def _write(self, parts: Mapping[str, Mapping[str, Tensor]], *, finished: bool) -> None:
        assert self._path is not None
        state = asdict(self._state) | {"seconds": self._seconds()}
        facts = {"of": self._fingerprint(), "state": state, "finished": finished}
        checkpoint.save(self._path, parts, facts)

    def _fingerprint(self) -> list[Any]:
        """What a state on disk must have been made with."""
        shapes = [[name, *each.shape] for name, each in self._task.parameters.items()]
        return [self._wish.model_dump(mode="json"), self._context.seed, self._size, shapes]

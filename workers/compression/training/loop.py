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

from app.domain.problems import StepFailed
from app.domain.reports import ERRORS, Metric
from app.domain.steps.recover import Recover
from workers.compression.context import Context
from workers.compression.intake.split import split
from workers.compression.measure.quality import Score
from workers.compression.schedules import warm_up_cosine
from workers.compression.training import checkpoint
from workers.compression.training.feed import Batch, Feed, Forward, Outputs

Advance = Callable[[float], None]

_VALIDATION_SHARE = 0.1
_MOST_VALIDATION = 2000
_LEAST_SAMPLES = 20
"""With fewer, validation looks at what is trained on."""
_CHECKPOINT_SECONDS = 5.0
_CHECKPOINT_SHARE = 0.05
"""Of the time may go into writing states."""
_GRADIENT_NORM = 1.0
_SLOWER = 0.1
"""Of the learning rate, after a training went astray."""
_PACE_STEPS = 8
_HEADROOM = 0.95
"""Of the minutes are planned; the rest is for the pace's noise."""


@dataclass(frozen=True)
class Task:
    """What is trained, and what for.

    Attributes:
        parameters: by name; changed in place.
        forward: runs the graph.
        loss: a number from outputs and the batch that they answer, a mean over its samples.
        rates: factors of the learning rate by parameter; 1 where there is none.
        constrain: called after each step with the share of the training that is done, without
            gradient: puts parameters back to where they must be.
        settled: the share of the training from which a state may be kept: earlier ones are not
            what is asked for yet.
        metric: against the targets and of which output; without, the loss alone decides.
        exact: no mixed precision, on any device.
    """

    parameters: Mapping[str, nn.Parameter]
    forward: Forward
    loss: Callable[[Outputs, Batch], Tensor]
    rates: Mapping[str, float] = field(default_factory=dict)
    constrain: Callable[[float], None] | None = None
    settled: float = 0.0
    metric: tuple[Metric, str] | None = None
    exact: bool = False


@dataclass
class _State:
    """Where a training stands, besides its tensors."""

    total: int
    """Steps in all."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    slower: float = 1.0
    best: tuple[float, float] = (math.inf, math.inf)
    """Metric, or loss again, and loss: less is better."""
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
    included: the result is never worse on them than what was given. A state on disk is gone on
    from, also a finished one.

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
        self._rows, self._validation = _divide(feed, context.seed)
        self._size = _batch_size(feed, wish, len(self._rows))
        self._feed = feed if feed.fixed else replace(feed, size=min(feed.size, self._size))
        self._epoch_steps = math.ceil(len(self._rows) / self._size)
        self._state = _State(total=self._epoch_steps * wish.epochs)
        for parameter in task.parameters.values():
            parameter.data = parameter.data.clone()  # where it lies depends on nothing else
        self._best = self._copy()
        self._optimizer = _optimizer(task, wish)
        self._peak = wish.learning_rate or default_rate(wish)
        self._order: tuple[int, Sequence[int]] = (-1, [])
        self._clock = time.monotonic()
        self._written, self._write_seconds = self._clock, 0.0
        self._path = context.workspace and context.workspace / "checkpoint" / f"{name}.npz"

    @property
    def done(self) -> float:
        """The share of the steps that is done."""
        return self._state.step / self._state.total

    def resume(self) -> bool:
        """Go on from a state on disk, else judge the start; return whether it was finished."""
        found = checkpoint.load(self._path) if self._path else None
        if found is not None and found[1].get("of") == self._fingerprint():
            tensors, facts = found
            self._put("best", tensors, self._best)
            if facts["finished"]:
                self._keep(self._best)
                return True
            self._put("now", tensors, dict(self._task.parameters))
            self._state = _State(**facts["state"] | {"best": tuple(facts["state"]["best"])})
            self._load_optimizer(tensors)
            return False
        if self._task.settled == 0:
            self._judge()
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
        rate = self._peak * state.slower * warm_up_cosine(state.step, state.total)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = self._gradients(self._batch())
        norm = nn.utils.clip_grad_norm_(self._trained(), _GRADIENT_NORM)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise _Astray
        self._optimizer.step()
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
        if self._state.slower < 1:
            raise StepFailed(
                "Training went astray: the loss is not a number, at"
                f" {self._peak * self._state.slower:.1e} as learning rate too. Ask for a lower"
                " 'learning_rate', or compress less."
            )
        self._keep(self._best)
        self._optimizer = _optimizer(self._task, self._wish)
        self._state = _State(
            self._state.total, seconds=self._state.seconds, slower=_SLOWER, best=self._state.best
        )

    def finish(self) -> None:
        """Leave the best state in the parameters, and on disk as finished."""
        if not math.isfinite(self._state.best[0]):
            self._constrain(1.0)
            self._best = self._copy()
        self._keep(self._best)
        if self._path:
            checkpoint.save(
                self._path, _named("best", self._best), self._facts() | {"finished": True}
            )

    def _gradients(self, rows: list[int]) -> float:
        """Sum up the gradients of a batch, run by run; return its loss."""
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        random = np.random.default_rng([self._context.seed, 1, self._state.step])
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
        state, tell = self._state, self._context.tell
        epoch = math.ceil(state.step / self._epoch_steps)
        steps = (state.step - 1) % self._epoch_steps + 1
        tell("loss", state.loss / steps, epoch)
        state.loss = 0.0
        if self.done >= self._task.settled:
            self._judge(epoch)

    @torch.no_grad()
    def _judge(self, epoch: int = 0) -> None:
        """Judge the state on the samples that are set aside, and keep it if it is the best."""
        total, score = 0.0, self._task.metric and Score(*self._task.metric)
        for part in self._feed.parts(self._validation):
            batch = self._feed.batch(part)
            outputs = self._feed.outputs(self._task.forward, batch)
            total += float(self._task.loss(outputs, batch)) * len(part)
            if score and self._task.metric and batch.targets is not None:
                answers = outputs[self._task.metric[1]].float().cpu().numpy()
                for index, target in enumerate(batch.targets.cpu().numpy()):
                    score.add(answers[index : index + 1], target)
        loss = total / len(self._validation)
        figure = loss
        self._context.tell("validation_loss", loss, epoch)
        if score and self._task.metric:
            metric = self._task.metric[0]
            self._context.tell(f"validation_{metric}", score.value, epoch)
            figure = score.value if metric in ERRORS else -score.value
        if math.isfinite(loss) and (figure, loss) < self._state.best:
            self._state.best, self._state.stale = (figure, loss), 0
            self._best = self._copy()
        else:
            self._state.stale += 1

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
            random = np.random.default_rng([self._context.seed, 0, epoch])
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

    def _trained(self) -> list[nn.Parameter]:
        return list(self._task.parameters.values())

    def _copy(self) -> dict[str, Tensor]:
        return {name: each.detach().clone() for name, each in self._task.parameters.items()}

    @torch.no_grad()
    def _keep(self, state: Mapping[str, Tensor]) -> None:
        for name, parameter in self._task.parameters.items():
            parameter.copy_(state[name])

    @torch.no_grad()
    def _put(self, prefix: str, tensors: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        for name, tensor in into.items():
            tensor.copy_(tensors[f"{prefix}/{name}"])

    def _write_if_due(self) -> None:
        """Write the state from time to time, the less often the longer it takes."""
        now = time.monotonic()
        pause = max(_CHECKPOINT_SECONDS, self._write_seconds / _CHECKPOINT_SHARE)
        if self._path is None or now - self._written < pause:
            return
        state = _named("best", self._best) | _named("now", self._task.parameters)
        checkpoint.save(self._path, state | self._moments(), self._facts() | {"finished": False})
        self._written = time.monotonic()
        self._write_seconds = self._written - now

    def _facts(self) -> dict[str, Any]:
        state = asdict(self._state) | {"seconds": self._seconds()}
        return {"of": self._fingerprint(), "state": state}

    def _fingerprint(self) -> list[Any]:
        """What a state on disk must have been made with."""
        shapes = [[name, *each.shape] for name, each in self._task.parameters.items()]
        return [self._wish.model_dump(mode="json"), self._context.seed, self._size, shapes]

    def _moments(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors."""
        return {
            f"moment/{index}/{key}": value
            for index, entry in self._optimizer.state_dict()["state"].items()
            for key, value in entry.items()
            if value is not None
        }

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("moment/"):
                _, index, key = name.split("/")
                state.setdefault(int(index), {})[key] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


def default_rate(wish: Recover) -> float:
    """Return the peak of the learning rate where the user names none."""
    return 1e-3 if wish.optimizer == "adamw" else 1e-2


def _divide(feed: Feed, seed: int) -> tuple[list[int], list[int]]:
    """Return the rows to train on and those to choose the best state with."""
    rows, targets = feed.samples.indices, feed.samples.targets
    if len(rows) < _LEAST_SAMPLES:
        return list(rows), list(rows)
    own = None if targets is None else targets[list(rows)]
    share = min(_VALIDATION_SHARE, _MOST_VALIDATION / len(rows))
    parts = split(len(rows), own, seed, share)
    return [rows[i] for i in parts.train], [rows[i] for i in parts.held_out]


def _batch_size(feed: Feed, wish: Recover, samples: int) -> int:
    """Return how many samples a step takes: fewer of large ones, and of a small dataset.

    A batch is made of whole runs.
    """
    row = feed.samples.indices[0]
    each = sum(array[row].nbytes for array in feed.samples.arrays.values())
    most = 128 if each <= 1 << 14 else 64 if each <= 1 << 17 else 32
    size = wish.batch_size or min(most, max(8, samples // 16))
    size = max(1, min(size, samples))
    return math.ceil(size / feed.size) * feed.size if feed.fixed else size


def _optimizer(task: Task, wish: Recover) -> torch.optim.Optimizer:
    groups = [
        {"params": [parameter], "factor": task.rates.get(name, 1.0)}
        for name, parameter in task.parameters.items()
    ]
    if wish.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=1.0, weight_decay=0.0, fused=True)


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}

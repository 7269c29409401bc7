"""What the loop makes of epochs, minutes and what is set aside, on a clock that the test sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from app.domain.jobs import Evaluate
from app.domain.steps.recover import Recover
from tests.workers.learning import nets
from workers.compression.learning.feed import Batch, Feed, Outputs
from workers.compression.learning.loop import train
from workers.compression.learning.portions import batches, divide, usual_batch
from workers.compression.learning.task import Task
from workers.compression.measure.quality import Yardstick
from workers.compression.samples.context import Context, Samples

ROWS, CLASSES = 400, 4
RIGHT = Yardstick("top1", "y", Evaluate())
TARGETS = np.arange(ROWS, dtype=np.int64) % CLASSES
NOISE = torch.from_numpy(nets.inputs(ROWS, CLASSES, seed=5))
"""What is answered to a row that nothing is known of."""


@dataclass
class Table:
    """Learns each row by heart: row i of ``weight`` answers sample i and no other."""

    weight: nn.Parameter
    step_seconds: float = 0.0
    """Of a run with gradients."""
    judging_seconds: float = 0.0
    """Of a sample that is judged."""
    now: float = 0.0
    steps: int = 0
    told: list[tuple[str, float, int | None]] = field(default_factory=list)

    def __call__(self, feeds: Mapping[str, Tensor]) -> Outputs:
        x = feeds["x"]
        training = torch.is_grad_enabled()
        self.steps += training
        self.now += self.step_seconds if training else self.judging_seconds * len(x)
        return {"y": x @ (self.weight + NOISE)}

    def task(self, constrain: Callable[[float], None] | None = None, **fields: object) -> Task:
        def loss(outputs: Outputs, batch: Batch) -> Tensor:
            assert batch.targets is not None
            return F.cross_entropy(outputs["y"], batch.targets)

        task = Task({"weight": self.weight}, self, loss, constrain=constrain, yardstick=RIGHT)
        return replace(task, **fields)  # type: ignore[arg-type]

    def context(self, workspace: Path | None = None) -> Context:
        def tell(name: str, value: float, epoch: int | None) -> None:
            self.told.append((name, value, epoch))

        return Context(
            train=None, seed=0, threads=1, workspace=workspace, tell=tell, clock=lambda: self.now
        )


def table(known: float = 0.0, step_seconds: float = 0.0, judging_seconds: float = 0.0) -> Table:
    """Return a table that knows the first share of the samples of each class."""
    right = F.one_hot(torch.from_numpy(TARGETS), CLASSES).float()
    rows = torch.arange(ROWS) // CLASSES < known * ROWS / CLASSES
    return Table(nn.Parameter(8 * right * rows[:, None]), step_seconds, judging_seconds)


def feed(size: int = 1000) -> Feed:
    samples = Samples({"x": np.eye(ROWS, dtype=np.float32)}, TARGETS, range(ROWS))
    return Feed(samples, "cpu", size, fixed=False)


def silent(_done: float) -> None:
    """Progress that nobody watches."""


def right(pupil: Table, rows: list[int]) -> float:
    with torch.no_grad():
        answers = (pupil.weight + NOISE).argmax(1).numpy()
    return float(np.mean(answers[rows] == TARGETS[rows]))


@pytest.mark.parametrize("rate", [None, 0.01])
@pytest.mark.parametrize(
    ("step", "judging"),
    [(0.04, 0.0), (0.05, 0.02), (0.3, 0.001), (1.0, 0.05), (7.0, 0.01), (25.0, 0.1), (90.0, 0.1)],
)
def test_minutes_are_used_whatever_a_step_takes(
    step: float, judging: float, rate: float | None
) -> None:
    pupil = table(step_seconds=step, judging_seconds=judging)
    wish = Recover(epochs=1000, minutes=1, learning_rate=rate, batch_size=16)
    train(pupil.task(), feed(), wish, pupil.context(), silent)
    judgement = judging * ROWS / 10
    assert pupil.now >= 0.85 * 60
    assert pupil.now <= 60 + step + judgement


@pytest.mark.parametrize("rate", [None, 0.01])
def test_most_of_the_minutes_goes_into_the_training_itself(rate: float | None) -> None:
    pupil = table(step_seconds=0.1, judging_seconds=0.001)
    wish = Recover(epochs=1000, minutes=1, learning_rate=rate, batch_size=16)
    steps = list[float]()
    train(pupil.task(), feed(), wish, pupil.context(), steps.append)
    assert len(steps) * 0.1 > 60 * (0.95 if rate else 0.7)


def test_epochs_bound_the_steps_where_minutes_are_many() -> None:
    pupil, steps = table(step_seconds=0.1), list[float]()
    wish = Recover(epochs=3, minutes=60, learning_rate=0.01, batch_size=16)
    train(pupil.task(), feed(), wish, pupil.context(), steps.append)
    assert len(steps) == 3 * 23
    assert steps == pytest.approx([(step + 1) / 69 for step in range(69)])


def test_a_training_that_gains_nothing_any_more_goes_on_to_its_end() -> None:
    """The rate has to come down: what was best half way is often passed at the end."""
    pupil, steps = table(known=1.0), list[float]()
    wish = Recover(epochs=20, learning_rate=1e-9, batch_size=64)
    train(pupil.task(), feed(), wish, pupil.context(), steps.append)
    assert len(steps) == 20 * 6


def test_minutes_that_end_inside_an_epoch_keep_what_was_learned() -> None:
    pupil = table(known=0.0, step_seconds=1.0)
    rows = divide(feed(), 0).training
    before = right(pupil, rows)
    wish = Recover(epochs=1, minutes=0.2, learning_rate=1.0, batch_size=16)

    def generous(done: float) -> None:
        """Let all samples be answered as those that were trained on."""
        with_rows = pupil.weight[rows].abs().sum(1) > 0
        pupil.weight.data[divide(feed(), 0).choosing] += (
            0.1
            * float(with_rows.sum() > 0)
            * (F.one_hot(torch.from_numpy(TARGETS[divide(feed(), 0).choosing]), CLASSES))
        )

    train(pupil.task(generous), feed(), wish, pupil.context(), silent)
    assert 10 <= pupil.steps <= 12, "23 are an epoch"
    assert right(pupil, rows) > before + 0.2
    assert [name for name, _, epoch in pupil.told if epoch == 1] == [
        "loss",
        "validation_loss",
        "validation_top1",
    ]


def test_a_judgement_takes_little_of_the_minutes() -> None:
    """Fewer samples are judged on a slow model: all of them would take four seconds a time."""
    pupil = table(step_seconds=0.1, judging_seconds=0.1)
    wish = Recover(epochs=1000, minutes=0.5, learning_rate=0.01, batch_size=8)
    train(pupil.task(), feed(), wish, pupil.context(), silent)
    assert pupil.steps * 0.1 > 0.5 * 30


@pytest.mark.parametrize(("rate", "kept"), [(0.3, False), (1e-6, True)])
def test_a_start_that_answers_by_heart_has_to_be_that_much_better(rate: float, kept: bool) -> None:
    """The original was made with all these samples, and training forgets those set aside.

    It then gets 34 of 40 right, and not 37. That is worth it where it has learned to answer all
    that it was trained on, and not where it has learned nothing.
    """
    pupil, portions = table(known=0.9), divide(feed(), 0)
    start = pupil.weight.detach().clone()
    targets = torch.from_numpy(TARGETS[portions.choosing])
    answers = F.one_hot(
        torch.where(torch.arange(40) < 34, targets, (targets + 1) % CLASSES), CLASSES
    )

    def forget(done: float) -> None:
        pupil.weight[portions.choosing] = (8 - 2 * done) * answers  # the last state is the best

    wish = Recover(epochs=20, learning_rate=rate, batch_size=64)
    train(pupil.task(forget), feed(), wish, pupil.context(), silent)
    assert torch.equal(pupil.weight, start) is kept
    assert right(pupil, portions.training) > 0.98 or kept


def test_a_start_that_is_better_on_all_samples_is_kept_to_the_bit() -> None:
    forgetting = table(known=0.8)
    before = forgetting.weight.detach().clone()

    def forget(_done: float) -> None:
        forgetting.weight.mul_(0.8)

    wish = Recover(epochs=4, learning_rate=1e-6, batch_size=64)
    train(forgetting.task(forget), feed(), wish, forgetting.context(), silent)
    assert torch.equal(forgetting.weight, before)


def test_rows_are_set_aside_by_class_and_those_to_compare_with_are_trained_on() -> None:
    portions = divide(feed(), 3)
    assert sorted(portions.training + portions.choosing) == list(range(ROWS))
    assert np.bincount(TARGETS[portions.choosing]).tolist() == [10] * CLASSES
    assert len(portions.comparing) == len(portions.choosing)
    assert set(portions.comparing) <= set(portions.training)
    fewer = portions.first(7)
    assert (len(fewer.choosing), len(fewer.comparing)) == (7, 7)
    assert fewer.training == portions.training


def test_any_beginning_of_a_portion_has_all_classes() -> None:
    sorted_rows = replace(feed(), samples=replace(feed().samples, targets=np.sort(TARGETS)))
    portions = divide(sorted_rows, 0)
    for rows in (portions.choosing, portions.comparing):
        assert len(set(np.sort(TARGETS)[rows[:20]])) == CLASSES


def test_of_few_samples_none_is_set_aside() -> None:
    few = replace(feed(), samples=feed().samples.take(range(19)))
    portions = divide(few, 0)
    assert sorted(portions.training) == sorted(portions.choosing) == list(range(19))
    enough = divide(replace(feed(), samples=feed().samples.take(range(20))), 0)
    assert len(enough.choosing) == 2


@pytest.mark.parametrize(("rows", "size", "least"), [(360, 64, 60), (65, 64, 32), (5, 8, 5)])
def test_no_batch_is_a_remainder(rows: int, size: int, least: int) -> None:
    divided = batches(feed(), list(range(rows)), size)
    assert [row for batch in divided for row in batch] == list(range(rows))
    assert len(divided) == -(-rows // size)
    assert least == min(map(len, divided)) >= max(map(len, divided)) - 1


def test_batches_are_smaller_of_large_samples_of_few_and_of_made_ones() -> None:
    rows = Samples({"x": np.zeros((4096, 8), np.float32)}, None, range(4096))
    large = Samples({"x": np.zeros((64, 1 << 16), np.float32)}, None, range(64))
    assert usual_batch(rows, 4096) == 128
    assert usual_batch(rows, 320) == 20
    assert usual_batch(large, 4096) == 32
    assert usual_batch(replace(rows, made=True), 4096) == 32
    assert usual_batch(replace(rows, made=True), 320) == 20


def test_batches_are_made_of_whole_runs_where_their_size_is_fixed() -> None:
    divided = batches(replace(feed(4), fixed=True), list(range(50)), 16)
    assert [len(batch) for batch in divided] == [12, 12, 12, 14]


def test_a_training_has_no_batch_that_is_a_remainder() -> None:
    pupil, sizes = table(), list[int]()

    def counted(outputs: Outputs, batch: Batch) -> Tensor:
        if torch.is_grad_enabled():
            sizes.append(len(batch.rows))
        return pupil.task().loss(outputs, batch)

    task = pupil.task(loss=counted)
    train(
        task, feed(), Recover(epochs=1, learning_rate=0.1, batch_size=359), pupil.context(), silent
    )
    assert sizes == [180, 180]

"""A training that is killed goes on from its state on disk, and ends with the same bits."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.domain.steps.recover import Recover
from tests.workers.learning import nets
from workers.compression.executor import Executor
from workers.compression.learning import checkpoint, loop
from workers.compression.learning.recovery import Demands, recover

WISH = Recover(epochs=6, learning_rate=3e-3)
_KILLED = """
import sys
from pathlib import Path
from tests.workers.learning import test_resume
test_resume.training(Path(sys.argv[1]), Path(sys.argv[2]))
"""


class Killed(BaseException):
    """The process ends here."""


def training(
    original: Path, workspace: Path | None, optimizer: str = "adamw", stop: float = 2.0
) -> dict[str, nets.Array]:
    """Train a damaged CNN on labelled, augmented images; perhaps stop on the way."""
    x = nets.inputs(96, 1, 6, 6)
    classes = np.arange(96, dtype=np.int64) % 4

    def advance(done: float) -> None:
        if done >= stop:
            raise Killed

    wish = WISH.model_copy(update={"optimizer": optimizer, "augment": ["flip", "shift"]})
    context = nets.context(original, x, classes, workspace)
    return nets.weights(recover(nets.damaged(original), wish, context, advance))


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return nets.stored(nets.graph(nets.CNN, nets.CNN_SHAPES), tmp_path / "cnn.onnx")


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_CHECKPOINT_SHARE", 1e9)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [0.02, 0.31])
def test_stopped_anywhere_it_ends_with_the_same_bits(
    original: Path, tmp_path: Path, every_step: None, optimizer: str, stop: float
) -> None:
    undisturbed = training(original, None, optimizer)
    with pytest.raises(Killed):
        training(original, tmp_path, optimizer, stop)
    again = training(original, tmp_path, optimizer)
    assert all(np.array_equal(undisturbed[name], each) for name, each in again.items())


def test_steps_before_the_state_on_disk_are_not_done_again(
    original: Path, tmp_path: Path, every_step: None
) -> None:
    with pytest.raises(Killed):
        training(original, tmp_path, stop=0.5)
    seen: list[float | str] = []
    x, classes = nets.inputs(96, 1, 6, 6), np.arange(96, dtype=np.int64) % 4
    wish = WISH.model_copy(update={"augment": ["flip", "shift"]})
    context = nets.context(original, x, classes, tmp_path)
    context = replace(context, resumed=lambda: seen.append("resumed"))
    recover(nets.damaged(original), wish, context, seen.append)
    assert seen[0] == "resumed", "so no pace counts what is there"
    assert min(done for done in seen if not isinstance(done, str)) > 0.45


def test_a_finished_training_is_not_done_again(original: Path, tmp_path: Path) -> None:
    first = training(original, tmp_path)
    second = training(original, tmp_path, stop=0.0)
    assert all(np.array_equal(first[name], each) for name, each in second.items())


def test_a_state_of_another_training_is_not_gone_on_from(
    original: Path, tmp_path: Path, every_step: None
) -> None:
    training(original, tmp_path, "sgd")
    assert all(
        np.array_equal(each, training(original, None)[name])
        for name, each in training(original, tmp_path).items()
    )


def test_a_broken_state_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    assert checkpoint.load(path) is None
    checkpoint.save(path, {"best": {"w": torch.ones(1000)}}, {"step": 3})
    whole = path.read_bytes()
    assert checkpoint.load(path) is not None
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        assert checkpoint.load(path) is None


def test_sigkill_in_mid_epoch_changes_nothing(original: Path, tmp_path: Path) -> None:
    undisturbed = training(original, None)
    state = tmp_path / "checkpoint" / "recovery.npz"
    words = "from workers.compression.learning import loop; loop._CHECKPOINT_SECONDS = 0.0\n"
    process = subprocess.Popen(
        [sys.executable, "-c", words + _KILLED, str(original), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    deadline = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was killed, not done"
    again = training(original, tmp_path)
    assert all(np.array_equal(undisturbed[name], each) for name, each in again.items())


class _Growing:
    """Sets more and more of a weight to zero, and keeps what it chose until it chooses anew."""

    def __init__(self) -> None:
        self.part, self.kept = 0, torch.ones(8, 1, 3, 3)

    def __call__(self, executor: Executor, done: float) -> None:
        weight = executor.weight("k")
        part = min(4, int(done * 8))
        if part != self.part:
            self.part = part
            least = weight.abs().flatten().kthvalue(part * 12).values
            self.kept = (weight.abs() > least).float()
        weight.mul_(self.kept)


def test_a_constraint_with_a_memory_gets_it_back(
    original: Path, tmp_path: Path, every_step: None
) -> None:
    x = nets.inputs(96, 1, 6, 6)

    def run(workspace: Path | None, stop: float = 2.0) -> dict[str, nets.Array]:
        def advance(done: float) -> None:
            if done >= stop:
                raise Killed

        context = nets.context(original, x, workspace=workspace)
        model = nets.damaged(original)
        recover(model, WISH, context, advance, Demands(_Growing(), settled=0.6))
        return nets.weights(model)

    undisturbed = run(None)
    with pytest.raises(Killed):
        run(tmp_path, stop=0.45)
    again = run(tmp_path)
    assert np.count_nonzero(again["k"] == 0) == 48
    assert all(np.array_equal(undisturbed[name], each) for name, each in again.items())

"""What recovery promises to the methods that call it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from app.domain.problems import DatasetMismatch, StepFailed
from app.domain.steps.recover import Loss, Recover
from tests.workers.learning import nets
from workers.compression.executor import Executor
from workers.compression.learning import objectives
from workers.compression.learning.recovery import Demands, recover
from workers.compression.samples.layout import Layout


def silent(_fraction: float) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return nets.stored(nets.graph(nets.MLP, nets.MLP_SHAPES), tmp_path / "mlp.onnx")


X = nets.inputs(256, 8)


def test_without_labels_a_graph_learns_to_answer_as_the_original(mlp: Path) -> None:
    model = nets.damaged(mlp)
    before = nets.error(model, mlp, X)
    after = nets.error(recover(model, Recover(), nets.context(mlp, X), silent), mlp, X)
    assert after < before / 10


@pytest.mark.parametrize("loss", ["labels", "teacher", "both", None])
def test_with_labels_the_right_classes_come_back(mlp: Path, loss: str | None) -> None:
    from workers.compression.graph.load import load

    classes = nets.answer(load(mlp), X).argmax(1).astype(np.int64)
    model = nets.damaged(mlp, 1.0)
    before = float(np.mean(nets.answer(model, X).argmax(1) == classes))
    wish = Recover.model_validate({"loss": loss, "epochs": 20})
    model = recover(model, wish, nets.context(mlp, X, classes), silent)
    after = float(np.mean(nets.answer(model, X).argmax(1) == classes))
    assert after > max(0.9, before)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_numbers_are_learned_from_targets_of_any_unit(mlp: Path, optimizer: str) -> None:
    from workers.compression.graph.load import load

    wanted = 1000 * nets.answer(load(mlp), X)
    model = load(mlp)
    for name in ("w2", "b2"):
        value = model.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.Tensor(900 * value.const_value.numpy(), name=name)
    wish = Recover.model_validate({"optimizer": optimizer, "loss": "labels", "epochs": 20})
    before = np.mean((nets.answer(model, X) - wanted) ** 2)
    model = recover(model, wish, nets.context(mlp, X, wanted), silent)
    assert np.mean((nets.answer(model, X) - wanted) ** 2) < before / 4


def test_a_graph_that_is_right_already_is_left_as_it_is(mlp: Path) -> None:
    from workers.compression.graph.load import load

    model = load(mlp)
    before = nets.weights(model)
    recover(model, Recover(epochs=2, learning_rate=1.0), nets.context(mlp, X), silent)
    assert all(np.array_equal(before[name], each) for name, each in nets.weights(model).items())


def test_a_training_that_gets_better_late_is_not_ended_early(mlp: Path) -> None:
    """Half of the epochs may be worse than the start, as long as they get better."""
    losses = list[float]()

    def note(name: str, value: float, _epoch: int | None) -> None:
        if name == "validation_loss":
            losses.append(value)

    model = nets.damaged(mlp, 0.05)
    before = nets.error(model, mlp, X)
    wish = Recover(epochs=14, learning_rate=0.02)
    model = recover(model, wish, replace(nets.context(mlp, X), tell=note), silent)
    assert min(losses[1:8]) > losses[0]
    assert nets.error(model, mlp, X) < before / 2


def test_zeros_of_a_sparse_weight_stay(mlp: Path) -> None:
    model = nets.damaged(mlp)
    value = model.graph.initializers["w1"]
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array[np.abs(array) < np.quantile(np.abs(array), 0.5)] = 0
    value.const_value = ir.Tensor(array, name="w1")
    after = nets.weights(recover(model, Recover(), nets.context(mlp, X), silent))["w1"]
    assert np.array_equal(after == 0, array == 0)
    assert not np.array_equal(after, array)


def test_a_constraint_holds_in_the_end_and_is_told_how_far_training_is(mlp: Path) -> None:
    model, told = nets.damaged(mlp), list[float]()

    def halves(executor: Executor, done: float) -> None:
        told.append(done)
        weight = executor.weight("w2")
        weight.copy_((weight * 2).round() / 2)

    after = recover(
        model, Recover(epochs=3), nets.context(mlp, X), silent, Demands(halves, settled=0.5)
    )
    doubled = 2 * nets.weights(after)["w2"]
    assert np.array_equal(doubled, doubled.round())
    assert told[-1] == 1.0


def test_a_rate_of_zero_leaves_a_weight_alone(mlp: Path) -> None:
    model = nets.damaged(mlp)
    before = nets.weights(model)
    after = nets.weights(
        recover(model, Recover(), nets.context(mlp, X), silent, Demands(rates={"w1": 0.0}))
    )
    assert np.array_equal(before["w1"], after["w1"])
    assert not np.array_equal(before["w2"], after["w2"])


@pytest.mark.parametrize("fixed", [1, 3, 38])
def test_a_graph_with_a_fixed_batch_is_trained_run_by_run(tmp_path: Path, fixed: int) -> None:
    text = nets.MLP.replace("BATCH", str(fixed))
    path = nets.stored(nets.graph(text, nets.MLP_SHAPES), tmp_path / "fixed.onnx")
    model, x = nets.damaged(path), nets.inputs(40, 8)
    batches = [x[i : i + fixed] for i in range(0, 36, fixed)]
    before = sum(nets.error(model, path, each) for each in batches)
    context = nets.context(path, x)
    assert context.train is not None
    rows = replace(context.train, layout=Layout(size=fixed, free=False))
    after = recover(model, Recover(epochs=8), replace(context, train=rows), silent)
    assert sum(nets.error(after, path, each) for each in batches) < before / 2


def test_a_graph_that_mixes_samples_of_a_batch_is_fed_one_at_a_time(tmp_path: Path) -> None:
    """Each sample alone is answered as the original does; what others add would be an error."""
    text = nets.MLP.replace(
        "r = Relu(h)",
        "s = ReduceSum(h, axes)\n others = Sub(s, h)\n e = Mul(others, k)\n a = Add(h, e)\n"
        " r = Relu(a)",
    ).replace("{\n", "<int64[1] axes = {0}>\n{\n", 1)
    original, model = (nets.graph(text, nets.MLP_SHAPES | {"k": (1,)}) for _ in range(2))
    for graph, share in ((original, 0.0), (model, 1.0)):
        array = np.full(1, share, np.float32)
        graph.graph.initializers["k"].const_value = ir.Tensor(array, name="k")
    path, losses = nets.stored(original, tmp_path / "mixing.onnx"), list[float]()

    def note(name: str, value: float, epoch: int | None) -> None:
        if name == "validation_loss" and epoch == 0:
            losses.append(value)

    context = replace(nets.context(path, nets.inputs(60, 8)), tell=note)
    recover(model, Recover(epochs=1, learning_rate=1e-3), context, silent)
    assert losses == [pytest.approx(0, abs=1e-9)]


@pytest.mark.parametrize("kinds", [["flip"], ["shift"], ["flip", "shift", "mix"]])
def test_images_may_be_augmented(tmp_path: Path, kinds: list[str]) -> None:
    path = nets.stored(nets.graph(nets.CNN, nets.CNN_SHAPES), tmp_path / "cnn.onnx")
    model, x = nets.damaged(path), nets.inputs(128, 1, 6, 6)
    before = nets.error(model, path, x)
    wish = Recover.model_validate({"augment": kinds, "epochs": 20})
    assert nets.error(recover(model, wish, nets.context(path, x), silent), path, x) < before / 2


def test_what_mixed_images_show_the_original_says(tmp_path: Path) -> None:
    path = nets.stored(nets.graph(nets.CNN, nets.CNN_SHAPES), tmp_path / "cnn.onnx")
    model, x = nets.damaged(path), nets.inputs(128, 1, 6, 6)
    before, wrong = nets.error(model, path, x), np.zeros(128, np.int64)
    wish = Recover(augment=["mix"], epochs=20)
    found = recover(model, wish, nets.context(path, x, wrong), silent)
    assert nets.error(found, path, x) < before / 2


@pytest.mark.parametrize("loss", ["labels", "both"])
def test_mixed_images_have_no_labels_to_learn(loss: Loss) -> None:
    with pytest.raises(ValueError, match="learn from the teacher alone"):
        Recover(augment=["mix"], loss=loss)


def test_what_is_no_image_is_not_augmented(mlp: Path) -> None:
    wish = Recover(augment=["flip"])
    with pytest.raises(StepFailed, match="leave it out"):
        recover(nets.damaged(mlp), wish, nets.context(mlp, X), silent)


def test_a_training_that_goes_astray_twice_says_what_to_do(mlp: Path) -> None:
    wish = Recover(learning_rate=10, optimizer="sgd")

    def explode(executor: Executor, _done: float) -> None:
        executor.weight("w1").mul_(float("inf"))

    with pytest.raises(StepFailed, match="lower 'learning_rate'"):
        recover(nets.damaged(mlp), wish, nets.context(mlp, X), silent, Demands(explode))


def test_targets_that_the_output_cannot_answer_are_named(mlp: Path) -> None:
    targets = np.zeros((256, 3), np.float32)
    with pytest.raises(DatasetMismatch, match="'y'"):
        recover(nets.damaged(mlp), Recover(loss="labels"), nets.context(mlp, X, targets), silent)


def test_classes_beyond_the_scores_are_named(mlp: Path) -> None:
    targets = np.full(256, 4, np.int64)
    with pytest.raises(DatasetMismatch, match="classes"):
        recover(nets.damaged(mlp), Recover(loss="labels"), nets.context(mlp, X, targets), silent)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (torch.tensor([1, -1]), "from -1 to 1.*Targets of -100 are left out"),
        (torch.tensor([1.0, 2.0]), "3 numbers for each of the targets.*store them as integers"),
    ],
)
def test_targets_that_are_stored_otherwise_are_told_how(target: torch.Tensor, words: str) -> None:
    scores = torch.zeros(2, 3)
    with pytest.raises(DatasetMismatch, match=words):
        objectives.labels("y", scores, target, None)({"y": scores}, {}, target)


def test_figures_of_every_epoch_are_told(mlp: Path) -> None:
    from dataclasses import replace

    told: list[tuple[str, int | None]] = []
    fractions: list[float] = []
    tell: Callable[[str, float, int | None], None] = lambda name, _value, epoch: told.append(  # noqa: E731
        (name, epoch)
    )
    context = replace(nets.context(mlp, X), tell=tell)
    recover(nets.damaged(mlp), Recover(epochs=2), context, fractions.append)
    assert told == [
        ("validation_loss", 0),
        ("loss", 1),
        ("validation_loss", 1),
        ("loss", 2),
        ("validation_loss", 2),
    ]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0

"""Normalisation is lent to a graph for its training, and is nowhere to be seen afterwards."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from app.domain.steps.recover import Recover
from tests.workers.learning import nets
from workers.compression.executor import build, write_back
from workers.compression.graph.load import load
from workers.compression.learning import loop
from workers.compression.learning.feed import feed_for
from workers.compression.learning.recovery import recover
from workers.compression.learning.renormalise import Renormalised, candidates

DEEP = """
<ir_version: 10, opset_import: ["": 21]>
deep (float[BATCH, 1, 6, 6] x) => (float[BATCH, 4] y)
{
    c = Conv<pads=[1, 1, 1, 1]>(x, k, kb)
    r = Relu(c)
    d = Conv<pads=[1, 1, 1, 1], group=8>(r, dk, db)
    e = Conv(d, pk, pb)
    s = Add(e, r)
    g = GlobalAveragePool(s)
    q = Conv(g, qk, qb)
    a = Relu(q)
    f = Flatten(a)
    y = Gemm<transB=1>(f, w, b)
}
"""
SHAPES = {
    "k": (8, 1, 3, 3), "kb": (8,), "dk": (8, 1, 3, 3), "db": (8,), "pk": (8, 8, 1, 1), "pb": (8,),
    "qk": (8, 8, 1, 1), "qb": (8,), "w": (4, 8), "b": (4,),
}  # fmt: skip
X = nets.inputs(96, 1, 6, 6)
CLASSES = np.arange(96, dtype=np.int64) % 4


@pytest.fixture
def original(tmp_path: Path) -> Path:
    model = nets.graph(DEEP, SHAPES)
    kernel = nets.weights(model)["k"]
    kernel[3] = 0  # a channel that says nothing
    model.graph.initializers["k"].const_value = ir.Tensor(kernel, name="k")
    return nets.stored(model, tmp_path / "deep.onnx")


def lend(path: Path) -> tuple[ir.Model, Renormalised]:
    model, context = load(path), nets.context(path, X, CLASSES)
    assert context.train is not None
    return model, Renormalised(model, feed_for(build(model), context.train, "cpu"), 0)


def trained(
    path: Path, workspace: Path | None = None, stop: float = 2.0, **wish: object
) -> ir.Model:
    def advance(done: float) -> None:
        if done >= stop:
            raise KeyboardInterrupt

    parameters = Recover.model_validate(
        {"epochs": 4, "learning_rate": 3e-3, "batch_size": 32} | wish
    )
    context = nets.context(path, X, CLASSES, workspace)
    return recover(nets.damaged(path), parameters, context, advance)


def test_at_the_start_it_changes_no_answer(original: Path) -> None:
    model, lent = lend(original)
    wanted, found = nets.answer(model, X), nets.answer(lent.model, X)
    assert np.abs(wanted - found).max() < 1e-5 * np.abs(wanted).max()


def test_what_has_no_extent_in_space_is_left_alone(original: Path) -> None:
    model, lent = lend(original)
    assert len(candidates(model)) == 4
    norms = [node for node in lent.model.graph if node.op_type == "BatchNormalization"]
    assert [node.inputs[0].name for node in norms if node.inputs[0]] == ["c", "d", "e"]


def test_while_it_learns_the_batch_decides_and_statistics_follow(original: Path) -> None:
    _, lent = lend(original)
    executor = build(lent.model)
    before = [executor.weight(name).clone() for name in lent.statistics]
    learning = lent.learning(executor, "cpu")
    x = {"x": 3 + torch.from_numpy(X[:32])}
    with torch.no_grad():
        assert torch.equal(learning(x)["y"], executor(x)["y"])
    y = learning(x)["y"]
    torch.autograd.backward(y.sum())
    assert not torch.equal(y, executor(x)["y"])
    assert executor.weight("dk").grad is not None
    assert not torch.equal(before[0], executor.weight(lent.statistics[0]))
    few = {"x": x["x"][:5]}
    assert torch.equal(learning(few)["y"], executor(few)["y"])


def test_folded_again_the_graph_answers_as_its_copy(original: Path) -> None:
    model, lent = lend(original)
    executor = build(lent.model)
    learning = lent.learning(executor, "cpu")
    optimizer = torch.optim.SGD([p for p in executor.parameters() if p.requires_grad], 1e-3)
    for _ in range(5):
        torch.autograd.backward(learning({"x": torch.from_numpy(X)})["y"].square().sum())
        optimizer.step()
    write_back(executor, lent.model)
    lent.fold(model)
    wanted, found = nets.answer(lent.model, X), nets.answer(model, X)
    assert np.abs(wanted - nets.answer(load(original), X)).max() > 0.01 * np.abs(wanted).max()
    assert np.abs(wanted - found).max() < 1e-4 * np.abs(wanted).max()


def test_a_trained_graph_has_the_nodes_and_names_that_it_had(original: Path) -> None:
    before, after = load(original), trained(original)
    assert [node.name for node in after.graph] == [node.name for node in before.graph]
    assert list(after.graph.initializers) == list(before.graph.initializers)
    assert not np.array_equal(nets.weights(before)["pk"], nets.weights(after)["pk"])


def test_zeros_stay(original: Path) -> None:
    wish, context = Recover(epochs=2, batch_size=32), nets.context(original, X, CLASSES)
    model = recover(load(original), wish, context, lambda _done: None)
    kernel = nets.weights(model)["k"]
    assert not kernel[3].any()
    assert not np.array_equal(kernel, nets.weights(load(original))["k"])


def test_a_training_that_helps_nothing_changes_no_bit(original: Path) -> None:
    model = load(original)
    before = nets.weights(model)
    targets = nets.answer(model, X).argmax(1).astype(np.int64)
    wish = Recover(epochs=1, learning_rate=10.0, batch_size=32)
    recover(model, wish, nets.context(original, X, targets), lambda _done: None)
    assert all(np.array_equal(before[name], each) for name, each in nets.weights(model).items())


@pytest.mark.parametrize("stop", [0.05, 0.6])
def test_stopped_anywhere_it_ends_with_the_same_bits(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: float
) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_CHECKPOINT_SHARE", 1e9)
    undisturbed = nets.weights(trained(original))
    with pytest.raises(KeyboardInterrupt):
        trained(original, tmp_path, stop)
    again = nets.weights(trained(original, tmp_path))
    assert all(np.array_equal(undisturbed[name], each) for name, each in again.items())


def test_small_batches_train_without_it(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_self: Renormalised, *_of: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Renormalised, "__init__", never)
    trained(original, epochs=1, batch_size=8)

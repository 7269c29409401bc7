"""What a library raises in the engine is told in plain words: the step, the node, what to do."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from tests.workers.engine.conftest import Run
from tests.workers.intake import models
from workers.compression import faults
from workers.compression.executor import build
from workers.compression.graph import runtime
from workers.compression.graph.operators import OPSET
from workers.compression.methods import METHODS

STEP = {"method": "quantize", "mode": "dynamic", "force": True}


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return _product(tmp_path / "product.onnx", [-1, 4])


@pytest.fixture
def of_two(tmp_path: Path) -> Path:
    return _product(tmp_path / "of_two.onnx", [4, 4])


def _product(path: Path, folded: list[int]) -> Path:
    """Write a product of ``x`` ``[n, 8]``, and a Reshape of it to a shape."""
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"], name="mix"),
        onnx.helper.make_node("Reshape", ["h", "to"], ["y"], name="fold"),
    ]
    graph = models.model(
        nodes,
        [models.value("x", "n", 8)],
        [models.value("y", "m", 4)],
        [models.tensor("w", weight), models.tensor("to", np.array(folded, np.int64))],
    )
    return models.write(graph, path)


def _at_product(model: ir.Model, *_: Any) -> Any:
    """A method that numpy stops at a node."""
    for node in model.graph:
        np.zeros(1296).reshape(len(str(node.name)), -1, 1297)


def _without_node(*_: Any) -> Any:
    next(iter(()))


def _torch(*_: Any) -> Any:
    torch.zeros(2, 3) @ torch.zeros(2, 3)


def _empty(*_: Any) -> Any:
    np.zeros(0).max()


@pytest.mark.parametrize("method", [_at_product, _without_node, _torch, _empty])
def test_an_error_that_no_step_expects_is_a_problem_without_the_librarys_words(
    job: Run, product: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    method: Callable[..., Any],
) -> None:  # fmt: skip
    monkeypatch.setitem(METHODS, "quantize", method)
    problem = job(product, STEP).problem
    assert problem is not None
    assert problem.type == "step-failed"
    assert problem.detail.startswith("'quantize' could not be carried out on this model")
    assert ("at node 'mix' (MatMul)" in problem.detail) == (method is _at_product)
    assert "fault of ours" in problem.detail
    log = capfd.readouterr().err
    said = log.strip().splitlines()[-1].partition(": ")[2]
    assert method.__name__ in log
    assert said not in problem.detail or not said


def test_memory_that_is_refused_is_no_fault_of_a_step(
    job: Run, product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "quantize", lambda *_: torch.ones(1 << 50))
    problem = job(product, STEP).problem
    assert problem is not None
    assert problem.type == "memory-limit"


def test_a_full_disk_ends_the_process(
    job: Run, product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker tells the limit by the exit code; there may be no room for a result."""

    def fill(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(METHODS, "quantize", fill)
    with pytest.raises(OSError, match="No space left"):
        job(product, STEP)


def test_an_error_outside_of_steps_names_the_stage() -> None:
    problem = faults.at_stage("reading the dataset", StopIteration())
    assert problem.type == "internal-error"
    assert "failed at 'reading the dataset'" in problem.detail


def test_the_node_at_which_the_runtime_stops_is_named(of_two: Path) -> None:
    session = runtime.open_session(of_two)
    with pytest.raises(Exception, match="Reshape") as stopped:
        runtime.run(session, {"x": np.zeros((3, 8), np.float32)})
    assert faults.node_of(stopped.value) == "'fold' (Reshape)"
    words = faults.runtime_words(stopped.value)
    assert words.startswith("at node 'fold' (Reshape): The input tensor cannot be reshaped")


def test_the_node_at_which_the_executor_stops_is_named(of_two: Path) -> None:
    model = ir.load(of_two)
    model.graph.opset_imports[""] = OPSET
    executor = build(model)
    with pytest.raises(RuntimeError) as stopped:
        executor({"x": torch.zeros(3, 8)})
    assert faults.node_of(stopped.value) == "'fold' (Reshape)"


def test_a_model_that_the_runtime_does_not_load_is_refused_by_node(
    job: Run, tmp_path: Path
) -> None:
    nodes = [onnx.helper.make_node("Add", ["x", "one"], ["y"], name="odd")]
    one = models.tensor("one", np.ones(3, np.int64))
    graph = models.model(nodes, [models.value("x", 2, 3)], [models.value("y", 2, 3)], [one])
    problem = job(models.write(graph, tmp_path / "odd.onnx"), STEP).problem
    assert problem is not None
    assert problem.type == "invalid-model"
    assert "'odd' (Add)" in problem.detail
    assert str(tmp_path) not in problem.detail


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (ValueError("no  kernel\nfor it"), "no kernel for it."),
        ("Why?", "Why?"),
        (KeyError(), "KeyError."),
        ("a" * 300 + "b" * 300, f"{'a' * 200} … {'b' * 200}."),
    ],
)
def test_a_librarys_words_become_a_sentence(said: Exception | str, sentence: str) -> None:
    assert faults.sentence(said) == sentence

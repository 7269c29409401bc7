"""Which axis counts samples is found by running, whatever names and sizes suggest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from app.domain.datasets import DatasetDescription, mismatches, sample_axes
from app.domain.models import TensorSpec
from app.domain.problems import DatasetMismatch
from tests.workers.field import graphs
from tests.workers.field.draw import FLOAT, Drawing, end, normal
from workers.compression.graph import runtime
from workers.compression.graph.load import load
from workers.compression.graph.trials import find_trials
from workers.compression.intake.inspect import inspect_model
from workers.compression.measure import synthetic
from workers.compression.samples import axis
from workers.compression.samples.context import Samples
from workers.compression.samples.drawn import find_layout
from workers.compression.samples.layout import Layout
from workers.compression.targets import onnx as target

ROWS = 24


def recurrent(
    x: Sequence[int | str], state: Sequence[int | str], *, samples_first: bool = False
) -> bytes:
    """Draw an LSTM; it reads ``[steps, samples, 5]``, or ``[samples, steps, 5]``."""
    draw = Drawing(1)
    turned = draw("Transpose", "x", perm=[1, 0, 2]) if samples_first else "x"
    weights = [draw.keep(normal(n, 1, 24, n)) for n in (5, 6)]
    draw("LSTM", turned, *weights, "", "", "h", gives=["steps", "last"], hidden_size=6)
    y = draw("Squeeze", "steps", draw.whole(1))
    if samples_first:
        draw("Transpose", y, perm=[1, 0, 2], gives=["y"])
    else:
        draw("Identity", y, gives=["y"])
    outputs = [end("y", FLOAT, "a", "b", 6), end("last", FLOAT, 1, "c", 6)]
    return draw.model([end("x", FLOAT, *x), end("h", FLOAT, *state)], outputs)


def chain(operators: Sequence[str], *dims: int | str, scalar: bool = False) -> bytes:
    """Draw a product ``[…, 8]`` by ``[8, 4]`` and operators behind it; perhaps times a scalar."""
    draw = Drawing(2)
    value = draw("MatMul", "x", draw.weight(8, 4))
    inputs = [end("x", FLOAT, *dims)]
    if scalar:
        value = draw("Mul", value, "factor")
        inputs.append(end("factor", FLOAT))
    for operator in operators:
        value = draw(operator, value, axis=0) if operator == "Softmax" else draw(operator, value)
    draw("Identity", value, gives=["y"])
    return draw.model(inputs, [end("y", FLOAT, *["any"] * (len(dims) - 1), 4)])


def opened(raw: bytes, directory: Path) -> tuple[ir.Model, axis.Run, Path]:
    path = directory / "graph.onnx"
    path.write_bytes(raw)
    return load(path), partial(runtime.run, runtime.open_session(path)), path


def found(raw: bytes, data: Mapping[str, NDArray[Any]], directory: Path) -> Layout:
    model, run, _ = opened(raw, directory)
    return axis.find(model, run, Samples(data, None, range(len(next(iter(data.values()))))))


SEQUENCES = {"x": normal(1, ROWS, 20, 5), "h": normal(2, ROWS, 1, 6)}


@pytest.mark.parametrize(
    ("raw", "inputs", "y"),
    [
        (recurrent([20, "n", 5], [1, "n", 6]), {"x": 1, "h": 1}, 1),
        (recurrent(["t", "n", 5], [1, "n", 6]), {"x": 1, "h": 1}, 1),
        (recurrent(["t", "n", 5], [1, "m", 6]), {"x": 1, "h": 1}, 1),
        (recurrent(["n", 20, 5], [1, "n", 6], samples_first=True), {"x": 0, "h": 1}, 0),
        (recurrent(["n", "t", 5], [1, "n", 6], samples_first=True), {"x": 0, "h": 1}, 0),
    ],
    ids=["fixed steps", "free steps", "two names", "samples first", "samples first, free steps"],
)
def test_states_and_sequences_count_samples_wherever_they_stand(
    raw: bytes, inputs: dict[str, int], y: int, tmp_path: Path
) -> None:
    layout = found(raw, SEQUENCES, tmp_path)
    assert layout == Layout(inputs, {"y": y, "last": 1}, size=1, free=True)


@pytest.mark.parametrize(
    ("x", "state", "samples_first", "inputs"),
    [
        ([20, 1, 5], [1, 1, 6], False, {"x": 1, "h": 0}),
        ([1, 20, 5], [1, 1, 6], True, {"x": 0, "h": 0}),
    ],
)
def test_a_graph_that_is_fixed_to_one_sample_has_one_a_run(
    x: list[int | str], state: list[int | str], samples_first: bool, inputs: dict[str, int],
    tmp_path: Path,
) -> None:  # fmt: skip
    layout = found(recurrent(x, state, samples_first=samples_first), SEQUENCES, tmp_path)
    assert (dict(layout.inputs), layout.size, layout.free) == (inputs, 1, False)
    assert layout.outputs["y"] == inputs["x"]


@pytest.mark.parametrize(
    ("raw", "size", "free"),
    [
        (chain(["Relu"], "n", 8), 1, True),
        (chain(["Softmax"], "n", 8), 1, False),
        (chain(["Relu"], 4, 8), 4, False),
        (chain(["Softmax"], 4, 8), 4, False),
        (chain(["Relu"], 1, 8), 1, False),
    ],
    ids=["any", "mixed", "four", "four, mixed", "one"],
)
def test_how_many_samples_a_run_takes(raw: bytes, size: int, free: bool, tmp_path: Path) -> None:
    layout = found(raw, {"x": normal(3, ROWS, 8)}, tmp_path)
    assert (layout.size, layout.free, dict(layout.inputs)) == (size, free, {"x": 0})
    assert layout.outputs == {"y": 0}


def test_a_dynamic_first_dimension_that_is_a_lie_takes_one_at_a_time(tmp_path: Path) -> None:
    field = graphs.one_sample_only()
    assert found(field.model, field.data, tmp_path) == Layout(
        {"ids": 0}, {"tags": 0}, size=1, free=False
    )


@pytest.mark.parametrize("same", [True, False])
def test_an_input_without_dimensions_is_shared_where_all_samples_have_the_same(
    same: bool, tmp_path: Path
) -> None:
    factor = np.ones(ROWS, np.float32) if same else normal(4, ROWS)
    data = {"x": normal(3, ROWS, 8), "factor": factor}
    layout = found(chain(["Relu"], "n", 8, scalar=True), data, tmp_path)
    assert (dict(layout.inputs), layout.free) == ({"x": 0, "factor": None}, same)


def test_a_sample_may_be_all_that_a_graph_reads(tmp_path: Path) -> None:
    raw, data = chain(["Softmax"], 3, 8), {"x": normal(5, ROWS, 3, 8)}
    layout = found(raw, data, tmp_path)
    assert (dict(layout.inputs), layout.size, layout.free) == ({"x": None}, 1, False)
    _, run, path = opened(raw, tmp_path)
    session = target.open_session(path, threads=1)
    samples = Samples(data, None, range(ROWS), layout)
    given = [outputs for each in target.predict(session, samples) for outputs in each]
    assert len(given) == ROWS
    np.testing.assert_allclose(given[7]["y"], run({"x": data["x"][7]})["y"])


def test_samples_that_fit_no_axis_are_the_datas_problem(tmp_path: Path) -> None:
    field = graphs.one_sample_only()
    _, _, path = opened(field.model, tmp_path)
    session = target.open_session(path, threads=1)

    def run(feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {"tags": target.run(session, None, feeds)[0]}

    samples = Samples({"ids": np.full((3, 4), 90)}, None, range(3))
    with pytest.raises(DatasetMismatch, match="ids"):
        axis.find(load(path), run, samples)


@pytest.mark.parametrize("count", [1, 5, ROWS])
def test_each_sample_is_answered_as_alone_with_its_axis_first(count: int, tmp_path: Path) -> None:
    raw = recurrent([20, "n", 5], [1, "n", 6])
    _, run, path = opened(raw, tmp_path)
    layout = found(raw, SEQUENCES, tmp_path)
    samples = Samples(SEQUENCES, None, list(range(count))[::-1], layout)
    session = target.open_session(path, threads=1)
    given = [outputs for each in target.predict(session, samples) for outputs in each]
    assert len(given) == count
    for row, outputs in zip(samples.indices, given, strict=True):
        assert (outputs["y"].shape, outputs["last"].shape) == ((1, 20, 6), (1, 1, 6))
        alone = run({n: array[row][:, None] for n, array in SEQUENCES.items()})
        np.testing.assert_allclose(outputs["y"][0], alone["y"][:, 0], rtol=1e-5)


def test_runs_of_a_fixed_size_are_filled_up_and_give_each_sample_once(tmp_path: Path) -> None:
    raw, data = chain(["Relu"], 4, 8), {"x": normal(6, 10, 8)}
    layout = found(raw, data, tmp_path)
    _, run, path = opened(raw, tmp_path)
    samples = Samples(data, None, range(10), layout)
    assert [rows for _, rows in samples.runs()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    given = [o["y"] for e in target.predict(target.open_session(path, 1), samples) for o in e]
    wanted = run({"x": data["x"][:4]})["y"]
    np.testing.assert_allclose(np.concatenate(given)[:4], wanted, rtol=1e-6)
    assert len(given) == 10


@pytest.mark.parametrize(
    ("raw", "inputs", "free"),
    [
        (recurrent([20, "n", 5], [1, "n", 6]), {"x": 1, "h": 1}, True),
        (recurrent(["n", "t", 5], [1, "n", 6], samples_first=True), {"x": 0, "h": 1}, True),
        (chain(["Relu"], "n", 8, scalar=True), {"x": 0, "factor": None}, True),
        (graphs.one_sample_only().model, {"ids": 0}, False),
    ],
    ids=["steps first", "samples first", "scalar", "one only"],
)
def test_without_data_it_is_found_on_random_inputs(
    raw: bytes, inputs: dict[str, int | None], free: bool, tmp_path: Path
) -> None:
    model, run, path = opened(raw, tmp_path)
    layout = find_layout(model, run, find_trials(model, path)[0])
    assert (dict(layout.inputs), layout.size, layout.free) == (inputs, 1, free)
    drawn = synthetic.draw(path, seed=0)
    assert len(drawn) == 16
    for feeds, _ in drawn.runs():
        run(feeds)


def test_macs_are_of_one_sample_wherever_samples_stand(tmp_path: Path) -> None:
    field = graphs.steps_first()
    (tmp_path / "upload").write_bytes(field.model)
    described = inspect_model(tmp_path / "upload", tmp_path)
    assert described.macs == 20 * (37 * 64 + 32 * 64 + 64 * 5)
    assert not any("n = " in note for note in described.notes)


@pytest.mark.parametrize(
    ("row", "wanted", "axes"),
    [
        ([3, 8, 8], ["n", 3, 8, 8], [0]),
        ([20, 37], [20, "n", 37], [1, 0]),
        ([3, 512], [3, "n", 512], [1, 0]),
        ([3, 512], [3, 1, 512], [1]),
        ([12], ["batch", "seq"], [0, 1]),
        ([64], ["batch", 128], []),
        ([64], ["batch", 1], []),
        ([], [], [None]),
        ([8, 16], [8, 16], [None]),
        ([8, 16], ["n", 16], [None]),
        ([2, 9], [2, "edges"], [None]),
        ([8, 16], ["n", 17], []),
        ([16], [8, 16], [0]),
    ],
)
def test_shapes_say_which_axes_may_count_samples(
    row: list[int | str], wanted: list[int | str], axes: list[int | None]
) -> None:
    assert sample_axes(row, wanted) == axes


def test_a_dataset_whose_rows_fit_no_axis_is_refused_with_what_they_should_hold() -> None:
    dataset = DatasetDescription(
        format="npz", samples=9, targets=None,
        arrays=[TensorSpec(name="h", dtype="float32", shape=[9, 2, 511])],
    )  # fmt: skip
    (words,) = mismatches(dataset, [TensorSpec(name="h", dtype="float32", shape=[3, "n", 512])])
    assert "[9, 2, 511]" in words
    assert "first dimension" in words


def test_a_layout_survives_taking_and_drawing() -> None:
    layout = Layout({"x": 1}, size=2, free=False)
    samples = Samples({"x": normal(1, 6, 3)}, None, range(6), layout)
    assert samples.take([1]).layout == samples.draw(3, 0).layout == layout
    assert replace(samples, layout=Layout()).first_run()["x"].shape == (1, 3)
    assert samples.first_run()["x"].shape == (3, 2)

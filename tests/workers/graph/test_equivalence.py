"""Trials are inputs that the reference accepts, in several sizes; differences are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.workers.intake.models import convnet, model, tensor, value, write
from workers.compression.graph.equivalence import Trial, difference
from workers.compression.graph.load import load
from workers.compression.graph.pieces import open_graph
from workers.compression.graph.runtime import Arrays
from workers.compression.graph.trials import find_trials, trials_of


def trials(proto: onnx.ModelProto, directory: Path, seed: int = 0) -> list[Trial]:
    path = write(proto, directory / "model.onnx")
    return find_trials(load(path), path, seed)


def test_one_sample_in_two_sizes_and_two_samples(tmp_path: Path) -> None:
    sizes = [trial.sizes for trial in trials(convnet(), tmp_path)]
    assert sizes == [
        {"N": 1, "H": 224, "W": 224},
        {"N": 1, "H": 64, "W": 64},
        {"N": 2, "H": 224, "W": 224},
    ]


def test_dimensions_of_one_name_get_one_size_and_a_fixed_one_is_found(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "z"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ]
    inputs = [value("x", "N", "T"), value("z", "N", "T")]
    proto = model(nodes, inputs, [value("y", 1, 7)], [tensor("shape", np.array([1, 7]))])
    found = trials(proto, tmp_path)
    assert found[0].sizes == {"N": 1, "T": 7}
    assert found[0].feeds["x"].shape == found[0].feeds["z"].shape == (1, 7)


def test_a_dimension_that_is_a_sum_of_others_gets_their_sum(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Concat", ["past", "x"], ["all"], axis=1),
        helper.make_node("Mul", ["all", "mask"], ["y"]),
    ]
    inputs = [value("x", "N", "T"), value("mask", "N", "P + T"), value("past", "N", "P")]
    found = trials(model(nodes, inputs, [value("y", "N", "P + T")], []), tmp_path)
    assert found[0].sizes == {"N": 1, "T": 128, "P + T": 256, "P": 128}
    assert found[0].feeds["mask"].shape == (1, 256)


def test_indices_are_drawn_from_the_range_that_the_model_accepts(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    inputs = [value("x", "N", "T", dtype=TensorProto.INT64)]
    weights = [tensor("table", np.arange(8, dtype=np.float32).reshape(2, 4))]
    found = trials(model(nodes, inputs, [value("y", "N", "T", 4)], weights), tmp_path)
    assert {int(number) for number in found[0].feeds["x"].reshape(-1)} == {0, 1}


def test_a_model_that_cuts_thousands_off_gets_more(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Slice", ["x", "start", "end", "axis"], ["middle"]),
        helper.make_node("Reshape", ["middle", "rows"], ["y"]),
    ]
    places = {"start": [5000], "end": [-5000], "axis": [1], "rows": [1, 6000]}
    constants = [tensor(name, np.array(place)) for name, place in places.items()]
    proto = model(nodes, [value("x", "N", "T")], [value("y", "N", 6000)], constants)
    assert [trial.sizes for trial in trials(proto, tmp_path)] == [{"N": 1, "T": 16_000}]


@pytest.mark.parametrize(
    ("shape", "accepted"), [(("N", "T"), (1, 7)), (("N", 3, "T", "T"), (1, 3 * 299 * 299))]
)
def test_thousands_are_not_tried_where_a_size_is_accepted_nor_of_images(
    tmp_path: Path, shape: tuple[int | str, ...], accepted: tuple[int, ...]
) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    constant = tensor("shape", np.array(accepted))
    proto = model([node], [value("x", *shape)], [value("y", *accepted)], [constant])
    path, seen, refused = write(proto, tmp_path / "model.onnx"), set[int](), list[bytes]()
    run = open_graph(path, 1)

    def watched(feeds: Mapping[str, NDArray[Any]], seconds: float | None) -> Arrays:
        seen.add(feeds["x"].shape[-1])
        try:
            return run(feeds, seconds)
        except Exception:
            refused.append(feeds["x"].tobytes())
            raise

    trials_of(watched, load(path))
    assert len(seen) > 5
    assert max(seen) <= 1024
    assert len(refused) == len(set(refused)), "what was refused once is not tried again"


def test_a_model_that_answers_differently_each_time_has_no_trials(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    assert trials(model(nodes, [value("x", "N")], [value("y", "N")]), tmp_path) == []


def test_the_same_seed_gives_the_same_inputs(tmp_path: Path) -> None:
    first, again, other = (trials(convnet(), tmp_path, seed)[0].feeds["x"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_differences_are_relative_to_the_largest_output_and_named() -> None:
    y = np.array([1000, 1], np.float32)
    assert difference({"y": y}, {"y": y + np.float32(0.01)}) is None
    assert "differs by 0.001" in (difference({"y": y}, {"y": y + np.float32(1)}) or "")
    assert "float64" in (difference({"y": y}, {"y": y.astype(np.float64)}) or "")
    assert "[1]" in (difference({"y": y}, {"y": y[:1]}) or "")
    assert "outputs are" in (difference({"y": y}, {"z": y}) or "")
    assert difference({"y": np.array([1])}, {"y": np.array([2])})


def test_below_the_normal_numbers_of_half_errors_are_not_relative() -> None:
    """There, one step of half is a large share of the number."""
    expected = {"y": np.full(2, 2e-6, np.float16)}
    near = {"y": np.full(2, 2.2e-6, np.float16)}
    assert difference(expected, near) is None
    assert difference(expected, {"y": np.full(2, 8e-6, np.float16)}) is not None
    assert difference({"y": np.full(2, 2e-3, np.float16)}, {"y": np.full(2, 2.2e-3, np.float16)})


def test_infinities_and_nans_must_coincide() -> None:
    y = np.array([np.nan, np.inf, 1], np.float32)
    assert difference({"y": y}, {"y": y.copy()}) is None
    assert difference({"y": y}, {"y": np.array([1, np.inf, 1], np.float32)})
    assert difference({"y": y}, {"y": np.array([np.nan, -np.inf, 1], np.float32)})
    assert difference({"y": y[2:]}, {"y": y[:1]})

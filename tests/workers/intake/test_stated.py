"""Dynamic dimensions of an ONNX upload get the sizes and names that its user states."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from app.domain.directory import InspectModel
from app.domain.models import INPUT_HINTS, ModelHints
from tests.workers.intake.models import model, value, write
from tests.workers.intake.sources.reading import rejected
from workers.compression.intake.limits import ModelLimits
from workers.compression.intake.reading import read_model


def shapes(path: Path, inputs: list[dict[str, Any]]) -> dict[str, list[int | str]]:
    """Read a graph of two inputs with stated shapes; return those of inputs and outputs."""
    nodes = [helper.make_node("Add", ["x", "y"], ["z"])]
    borders = [value("x", "N", 3, "W"), value("y", "N", 3, "W")], [value("z", "N", 3, "W")]
    return stated(write(model(nodes, *borders, []), path / "upload"), path, inputs)


def stated(upload: Path, path: Path, inputs: list[dict[str, Any]]) -> dict[str, list[int | str]]:
    hints = ModelHints(inputs=INPUT_HINTS.validate_python(inputs))
    order = InspectModel(hints=hints)
    read_model(upload, path / "model.onnx", ModelLimits(), order)
    graph = onnx.load(path / "model.onnx").graph
    return {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in [*graph.input, *graph.output]
    }


def test_a_size_holds_for_every_dimension_of_its_name(tmp_path: Path) -> None:
    found = shapes(tmp_path, [{"name": "x", "shape": ["batch", 3, 160]}])
    assert set(map(tuple, found.values())) == {("batch", 3, 160)}
    run = onnx.reference.ReferenceEvaluator(str(tmp_path / "model.onnx"))
    ones = np.ones((2, 3, 160), np.float32)
    np.testing.assert_array_equal(run.run(None, {"x": ones, "y": ones})[0], ones + ones)


def test_a_sum_of_dimensions_follows_them(tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", ["past", "x"], ["z"], axis=1)]
    borders = [value("x", "N", "T"), value("past", "N", "P")], [value("z", "N", "P + T")]
    upload = write(model(nodes, *borders, []), tmp_path / "upload")
    for hints, wanted in (
        ([{"name": "x", "shape": ["N", 5]}], "P + 5"),
        ([{"name": "x", "shape": ["N", 5]}, {"name": "past", "shape": ["N", 7]}], 12),
    ):
        assert stated(upload, tmp_path, hints)["z"] == ["N", wanted]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([{"name": "image", "shape": [1, 3, 8]}], "names 'image'; the model has the inputs 'x'"),
        ([{"name": "x", "shape": [1, 4, 8]}], "takes .*cannot be changed"),
        ([{"name": "x", "shape": [1, 3, 8]}, {"name": "y", "shape": [1, 3, 9]}], "two sizes, 8"),
        ([{"name": "x", "dtype": "int64", "shape": [1, 3, 8]}], "takes float32"),
    ],
)
def test_what_contradicts_the_graph_is_refused(
    tmp_path: Path, inputs: list[dict[str, Any]], words: str
) -> None:
    with rejected(words):
        shapes(tmp_path, inputs)

"""A copy of all elements in order, as torch writes some views, is no part of a graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import parser

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import tensor

HEADER = '<ir_version: 8, opset_import: ["" : 18]>'
MEAN = "mean = ReduceMean(x, pixels) row = Reshape(mean, all)"
COMPUTED = """
    shape = Shape <start = 0, end = 1>(x)
    samples = Squeeze(shape)
    range = Range(zero, samples, one)
    scaled = Mul(range, step)
    rows = Unsqueeze(scaled, places)
    places_of = Add(rows, row_indices)
"""
IN_ORDER = np.arange(4).reshape(1, 4, 1, 1)
"""The indices of the first of four channels of one pixel each."""


def read(samples: str, indices: str, **constants: NDArray[np.int64]) -> onnx.ModelProto:
    """Return a graph that gathers from the means of four channels."""
    proto = parser.parse_model(
        f"{HEADER} g (float[{samples}, 4, 5, 5] x) => (float[rows, 4, 1, 1] y)"
        f" <float[{samples}, 4, 1, 1] mean> {{ {MEAN} {indices} copy = Gather(row, places_of)"
        " y = Sigmoid(copy) }"
    )
    values = {"pixels": np.array([2, 3]), "all": np.array([-1])} | constants
    proto.graph.initializer.extend(tensor(name, value) for name, value in values.items())
    return proto


def counting(step: int, row: NDArray[np.int64]) -> onnx.ModelProto:
    """Return the graph whose indices are those of a row, and so much more in each next one."""
    scalars = {"zero": np.array(0), "one": np.array(1), "step": np.array(step)}
    places = np.array([1, 2, 3])
    return read("N", COMPUTED, **scalars, places=places, row_indices=row)


def test_a_copy_of_all_samples_goes(tmp_path: Path) -> None:
    assert operators(normal(counting(4, IN_ORDER), tmp_path)) == {"ReduceMean": 1, "Sigmoid": 1}


def test_a_copy_of_so_many_samples_goes(tmp_path: Path) -> None:
    graph = normal(read("3", "", places_of=np.arange(12).reshape(3, 4, 1, 1)), tmp_path)
    assert operators(graph) == {"ReduceMean": 1, "Sigmoid": 1}


@pytest.mark.parametrize(
    ("step", "row"), [(0, IN_ORDER), (4, IN_ORDER[:, ::-1]), (3, IN_ORDER)], ids=str
)
def test_another_order_stays(tmp_path: Path, step: int, row: NDArray[np.int64]) -> None:
    assert operators(normal(counting(step, row), tmp_path))["Gather"] == 1


def test_another_shape_stays(tmp_path: Path) -> None:
    graph = normal(read("4", "", places_of=np.arange(8).reshape(2, 4, 1, 1)), tmp_path)
    assert operators(graph)["Gather"] == 1


def test_a_copy_of_a_copy_goes(tmp_path: Path) -> None:
    indices = "again = Gather(row, places_of) other = Reshape(again, all)"
    proto = read("3", indices, places_of=np.arange(12).reshape(3, 4, 1, 1))
    copy = next(node for node in proto.graph.node if "copy" in node.output)
    copy.input[0] = "other"
    proto.graph.value_info.append(
        onnx.helper.make_tensor_value_info("again", onnx.TensorProto.FLOAT, [3, 4, 1, 1])
    )
    assert operators(normal(proto, tmp_path)) == {"ReduceMean": 1, "Sigmoid": 1}


def test_a_row_that_is_added_to_all_counts_nothing(tmp_path: Path) -> None:
    """Three more in each row and a count over one row are not four more in each row."""
    indices = COMPUTED.replace("places_of = Add(rows, row_indices)", """
        counted = Add(rows, row_indices)
        first = Shape <start = 0, end = 1>(single)
        count = Squeeze(first)
        once = Range(zero, count, one)
        repeated = Unsqueeze(once, places)
        places_of = Add(counted, repeated)
    """)  # fmt: skip
    scalars = {"zero": np.array(0), "one": np.array(1), "step": np.array(3)}
    arrays = {
        "places": np.array([1, 2, 3]),
        "row_indices": IN_ORDER,
        "single": np.zeros((1, 2), int),
    }
    graph = normal(read("N", indices, **scalars, **arrays), tmp_path)
    assert operators(graph)["Gather"] == 1

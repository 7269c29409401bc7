"""What is written tensor by tensor is the model that it stands for."""

from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.workers.intake.models import convnet, mlp, model, tensor, value
from workers.compression.graph import runtime
from workers.compression.graph.load import load, save
from workers.compression.graph.writer import Content, size, write


def put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


@pytest.mark.parametrize("make", [mlp, convnet])
def test_contents_take_the_place_of_the_weights_they_belong_to(
    tmp_path: Path, make: object
) -> None:
    expected: onnx.ModelProto = make()  # type: ignore[operator]
    hollow: onnx.ModelProto = make()  # type: ignore[operator]
    contents = {}
    for index in (1, 3):
        weight = hollow.graph.initializer[index]
        contents[index] = Content(len(weight.raw_data), partial(put, weight.raw_data))
        weight.ClearField("raw_data")
    write(hollow, tmp_path / "model.onnx", contents)
    assert onnx.load(tmp_path / "model.onnx") == expected


@pytest.mark.parametrize("bytes_each", [100, 1 << 17])
def test_weights_of_all_types_come_back(tmp_path: Path, bytes_each: int) -> None:
    """Small ones are part of the graph's own bytes, large ones are written behind it."""
    kinds = (ir.DataType.FLOAT, ir.DataType.BFLOAT16, ir.DataType.INT4, ir.DataType.UINT8)
    graph = ir.serde.deserialize_model(
        model([onnx.helper.make_node("Relu", ["x"], ["y"])], [value("x", 1)], [value("y", 1)])
    )
    for kind in kinds:
        count = bytes_each * 8 // kind.bitwidth
        array = (np.arange(count) % 7).astype(kind.numpy())
        weight = ir.Value(name=kind.name, const_value=ir.Tensor(array, dtype=kind))
        weight.type, weight.shape = ir.TensorType(kind), ir.Shape([count])
        graph.graph.register_initializer(weight)
    before = {name: v.const_value for name, v in graph.graph.initializers.items()}
    save(graph, tmp_path / "model.onnx")
    assert {name: v.const_value for name, v in graph.graph.initializers.items()} == before
    found = load(tmp_path / "model.onnx").graph.initializers
    assert list(found) == [kind.name for kind in kinds]
    for name, wanted in before.items():
        again = found[name].const_value
        assert again is not None
        assert wanted is not None
        assert again.dtype == wanted.dtype
        assert again.tobytes() == wanted.tobytes()
    runtime.open_session(tmp_path / "model.onnx")


def test_external_weights_are_brought_into_the_file(tmp_path: Path) -> None:
    weight = tensor("w", np.arange(6, dtype=np.float32))
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    proto = model([node], [value("x", 6)], [value("y", 6)], [weight])
    onnx.save(proto, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0)
    save(load(tmp_path / "apart.onnx"), tmp_path / "one.onnx")
    (stored,) = onnx.load(tmp_path / "one.onnx", load_external_data=False).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), np.arange(6))


@pytest.mark.parametrize("elements", [3, 1 << 17])
def test_the_size_of_a_model_is_that_of_its_file(tmp_path: Path, elements: int) -> None:
    proto = mlp()
    proto.graph.initializer.append(tensor("more", np.zeros(elements, np.float32)))
    typed = proto.graph.initializer.add(name="typed", data_type=onnx.TensorProto.FLOAT)
    typed.float_data.extend([1.5, 2.5])
    typed.dims.append(2)
    write(proto, tmp_path / "model.onnx", {})
    assert size(proto) == (tmp_path / "model.onnx").stat().st_size
    assert onnx.load(tmp_path / "model.onnx") == proto

"""Every attack on the ONNX entry that FAULTS lists is refused in words that say why."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from app.domain.problems import InvalidModel
from tests.workers.intake.models import (
    branch,
    mlp,
    model,
    refused,
    tensor,
    value,
    write,
)
from workers.compression.intake.inspect import inspect_model
from workers.compression.intake.limits import ModelLimits


def test_cyclic_functions(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own",
            name,
            ["a"],
            ["b"],
            [helper.make_node(other, ["a"], ["b"], domain="own")],
            imports,
        )
        for name, other in (("F", "G"), ("G", "F"))
    ]
    proto = model(
        [helper.make_node("F", ["x"], ["y"], domain="own")],
        [value("x", 1)],
        [value("y", 1)],
        functions=functions,
        imports=imports[1:],
    )
    refused(write(proto, tmp_path / "upload"), "calls itself")


def test_functions_that_double_sixty_times(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(60):
        callee, domain = (f"F{level + 1}", "own") if level < 59 else ("Relu", "")
        body = [
            helper.make_node(callee, ["a"], ["m"], domain=domain),
            helper.make_node(callee, ["m"], ["b"], domain=domain),
        ]
        functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], body, imports))
    proto = model(
        [helper.make_node("F0", ["x"], ["y"], domain="own")],
        [value("x", 1)],
        [value("y", 1)],
        functions=functions,
        imports=imports[1:],
    )
    refused(write(proto, tmp_path / "upload"), "more than 500000 nodes")


def nested(depth: int) -> bytes:
    """Return the encoding of a model whose graphs nest ``depth`` deep, built without recursion."""

    def field(number: int, data: bytes) -> bytes:
        length, size = b"", len(data)
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    graph = b""
    for _ in range(depth):
        attribute = field(1, b"body") + field(6, graph)
        graph = field(1, field(4, b"Loop") + field(5, attribute))
    return bytes([8, 9]) + field(7, graph)


@pytest.mark.parametrize("depth", [33, 100, 10_000])
def test_subgraphs_that_nest_without_end(tmp_path: Path, depth: int) -> None:
    (tmp_path / "upload").write_bytes(nested(depth))
    refused(tmp_path / "upload", "nest deeper")


def test_more_fields_than_memory(tmp_path: Path) -> None:
    proto = mlp()
    write(proto, tmp_path / "upload")
    directory = tmp_path / "job"
    directory.mkdir()
    with pytest.raises(InvalidModel, match="more than 50 protobuf fields"):
        inspect_model(tmp_path / "upload", directory, ModelLimits(fields=50))


@pytest.mark.parametrize(
    "dims", [[1 << 62, 4], [1 << 32, 1 << 32], [-1, 8], [0, 1 << 62], [1 << 40, 2], [2**31] * 30]
)
@pytest.mark.parametrize("kind", ["raw", "typed"])
def test_dimension_products_that_overflow(tmp_path: Path, dims: list[int], kind: str) -> None:
    proto = mlp()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.dims[:] = dims
    if kind == "raw":
        weight.raw_data = bytes(16)
    refused(write(proto, tmp_path / "upload"), "impossible shape|should hold")


@pytest.mark.parametrize("size", [0, 1, 127, 129, 4096])
def test_raw_data_of_the_wrong_length(tmp_path: Path, size: int) -> None:
    proto = mlp()
    proto.graph.initializer[0].raw_data = bytes(size)
    refused(write(proto, tmp_path / "upload"), "should hold 128 bytes")


def test_typed_data_of_the_wrong_length(tmp_path: Path) -> None:
    proto = mlp()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.float_data.extend([1.0] * 5)
    refused(write(proto, tmp_path / "upload"), "should hold 32 values")


def test_data_in_two_fields(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.initializer[0].float_data.extend([1.0] * 32)
    refused(write(proto, tmp_path / "upload"), "several fields")


@pytest.mark.parametrize("kind", [0, 99, -5])
def test_unknown_tensor_types(tmp_path: Path, kind: int) -> None:
    proto = mlp()
    proto.graph.initializer[0].data_type = kind
    refused(write(proto, tmp_path / "upload"), "unknown data type")


def test_a_negative_gather_index_is_a_failed_run_not_a_crash(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Gather", ["x", "i"], ["y"])],
        [value("x", 4)],
        [value("y", 1)],
        [tensor("i", np.array([-1000]))],
    )
    found = inspect_model(write(proto, tmp_path / "upload"), tmp_path)
    assert "accepted none of the random inputs" in found.notes[0]


@pytest.mark.parametrize("given", [{"N": 1 << 40}, {"K": 1 << 40}, {"N": -1}, {"bits": 0}])
def test_matmulnbits_with_false_figures(tmp_path: Path, given: dict[str, int]) -> None:
    figures = {"N": 8, "K": 32, "bits": 4, "block_size": 32} | given
    proto = model(
        [
            helper.make_node(
                "MatMulNBits", ["x", "q", "s"], ["y"], domain="com.microsoft", **figures
            )
        ],
        [value("x", "B", 32)],
        [value("y", "B", "n")],
        [tensor("q", np.zeros((8, 1, 16), np.uint8)), tensor("s", np.ones(8, np.float32))],
        imports=[helper.make_opsetid("com.microsoft", 1)],
    )
    refused(write(proto, tmp_path / "upload"), "MatMulNBits")


@pytest.mark.parametrize("group", ["input", "node"])
def test_duplicate_names(tmp_path: Path, group: str) -> None:
    proto = mlp()
    field = getattr(proto.graph, group)
    field.append(field[0])
    refused(write(proto, tmp_path / "upload"), "more than one")


def test_a_custom_operator_is_named(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.node[1].domain = "acme"
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    refused(write(proto, tmp_path / "upload"), "'acme::Relu'")


def test_an_unknown_contrib_operator_is_named(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "Nonsense", "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    refused(write(proto, tmp_path / "upload"), "Nonsense")


@pytest.mark.parametrize("version", [0, 3, 6, 99])
def test_opsets_that_are_not_read(tmp_path: Path, version: int) -> None:
    proto = mlp()
    proto.opset_import[0].version = version
    refused(write(proto, tmp_path / "upload"), "opset")


def test_a_graph_that_feeds_itself(tmp_path: Path) -> None:
    proto = mlp()
    proto.graph.node[0].input[0] = "y"
    refused(write(proto, tmp_path / "upload"), "checker refuses|onnxruntime cannot")


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda g: g.input[0].type.Clear(), "no tensor"),
        (lambda g: g.input[0].type.tensor_type.ClearField("shape"), "no type or no shape"),
        (lambda g: g.input[0].type.tensor_type.ClearField("elem_type"), "no type or no shape"),
        (lambda g: g.ClearField("output"), "no outputs"),
        (lambda g: g.ClearField("node"), "no ONNX graph"),
        (lambda g: setattr(g.input[0], "name", ""), "empty"),
        (
            lambda g: setattr(g.input[0].type.tensor_type.shape.dim[1], "dim_value", -7),
            "impossible",
        ),
    ],
)
def test_an_unsound_interface(
    tmp_path: Path, bend: Callable[[onnx.GraphProto], None], words: str
) -> None:
    proto = mlp()
    bend(proto.graph)
    refused(write(proto, tmp_path / "upload"), words)


@pytest.mark.parametrize(
    ("dims", "indices"),
    [([1 << 40], [0]), ([8], [-1]), ([8], [8]), ([1 << 31, 1 << 31], [0]), ([-8], [0])],
)
def test_sparse_tensors_that_lie(tmp_path: Path, dims: list[int], indices: list[int]) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [value("x", 8)], [value("y", 8)])
    sparse = proto.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor("w", np.ones(1, np.float32)))
    sparse.indices.CopyFrom(tensor("i", np.array(indices)))
    sparse.dims[:] = dims
    refused(write(proto, tmp_path / "upload"), "Sparse tensor 'w'|impossible")


def test_branches_with_weights_of_their_own_are_fine(tmp_path: Path) -> None:
    found = inspect_model(write(branch(), tmp_path / "upload"), tmp_path)
    assert found.operators["Mul"] == 2

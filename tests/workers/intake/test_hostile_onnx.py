"""Every attack on the ONNX entry that FAULTS lists is refused in words that say why."""

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from app.domain.problems import InvalidModel
from tests.workers.intake.models import (
    branch,
    externalize,
    mlp,
    model,
    tensor,
    value,
    write,
)
from workers.compression.intake.formats.onnx import read_bundle
from workers.compression.intake.inspect import inspect_model
from workers.compression.intake.limits import ModelLimits

SECRET = b"\x00\x00\x80?" * 8


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A bundle's directory; beside it, out of bounds, a file with a secret."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "bundle" / "b").mkdir(parents=True)
    yield tmp_path / "bundle"
    assert (tmp_path / "secret").read_bytes() == SECRET


def refused(upload: Path, words: str) -> None:
    directory = upload.parent / "job"
    directory.mkdir()
    with pytest.raises(InvalidModel, match=words):
        inspect_model(upload, directory)


def outside(where: str, location: str) -> onnx.ModelProto:
    """Return a model that names external data of 8 floats in one of the places that may hold it."""
    data = externalize(tensor("w", np.ones(8, np.float32)), location)
    x, y = value("x", 8), value("y", 8)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["w"], value=data)
    if where == "initializer":
        return model([add], [x], [y], [data])
    if where == "constant":
        return model([constant, add], [x], [y])
    if where == "subgraph":
        body = helper.make_graph([constant, add], "body", [], [y])
        weights = [tensor("c", np.array(True))]
        node = helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body)
        return model([node], [x], [value("z", 8)], weights)
    if where == "function":
        imports = [helper.make_opsetid("", 17)]
        function = helper.make_function("own", "F", ["x"], ["y"], [constant, add], imports)
        return model(
            [helper.make_node("F", ["x"], ["y"], domain="own")],
            [x],
            [y],
            functions=[function],
            imports=[helper.make_opsetid("own", 1)],
        )
    indices = tensor("i", np.arange(8))
    proto = model([add], [x], [y])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(data, indices, [8]))
    return proto


PLACES = ["initializer", "constant", "subgraph", "function", "sparse values"]


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    "location",
    ["../secret", "a/../../secret", "b/../../secret", "/etc/passwd", "..\\secret", "c:/secret",
     "*/_ORT_MEM_ADDR_/*", "", ".", "missing", "b", "file\0.bin", "/proc/self/mem", "a" * 5000],
)  # fmt: skip
def test_external_data_out_of_bounds(bundle: Path, where: str, location: str) -> None:
    write(outside(where, location), bundle / "model.onnx")
    with pytest.raises(InvalidModel):
        read_bundle(bundle, bundle.parent / "original.onnx", ModelLimits())


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("linked", ["secret", "b/secret"])
def test_external_data_behind_a_link(
    bundle: Path, where: str, link: Callable[[Path, Path], None], linked: str
) -> None:
    link(bundle.parent / "secret", bundle / linked)
    write(outside(where, linked), bundle / "model.onnx")
    with pytest.raises(InvalidModel):
        read_bundle(bundle, bundle.parent / "original.onnx", ModelLimits())


def test_external_data_behind_a_linked_directory(bundle: Path) -> None:
    (bundle / "link").symlink_to(bundle.parent)
    write(outside("initializer", "link/secret"), bundle / "model.onnx")
    with pytest.raises(InvalidModel, match="behind a link"):
        read_bundle(bundle, bundle.parent / "original.onnx", ModelLimits())


@pytest.mark.parametrize("where", PLACES)
def test_a_single_file_with_external_data_is_told_to_come_as_a_zip(
    tmp_path: Path, where: str
) -> None:
    (tmp_path / "weights").write_bytes(SECRET)
    refused(write(outside(where, "weights"), tmp_path / "upload"), "Upload a zip")


@pytest.mark.parametrize("where", PLACES)
def test_bytes_that_lie_in_the_working_directory_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "apart").mkdir()
    refused(write(outside(where, "secret"), tmp_path / "apart" / "upload"), "Upload a zip")


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "-1"},
        {"offset": "1"},
        {"offset": str(1 << 62)},
        {"offset": "9" * 40},
        {"offset": "0x0"},
        {"offset": "1e3"},
        {"offset": " 0"},
        {"length": "-32"},
        {"length": "0"},
        {"length": "33"},
        {"length": str(1 << 63)},
        {"basepath": "/etc"},
        {"location": "weights"},
        {"": "x"},
    ],
    ids=str,
)
def test_odd_external_entries(bundle: Path, entries: dict[str, str]) -> None:
    (bundle / "weights").write_bytes(SECRET)
    proto = outside("initializer", "weights")
    stored = proto.graph.initializer[0].external_data
    for key, text in entries.items():
        repeated = next((e for e in stored if e.key == key and key == "length"), None)
        entry = repeated or stored.add()
        entry.key, entry.value = key, text
    write(proto, bundle / "model.onnx")
    with pytest.raises(InvalidModel):
        read_bundle(bundle, bundle.parent / "original.onnx", ModelLimits())


def test_a_thousand_tensors_on_the_same_bytes(bundle: Path) -> None:
    data = bytes(1 << 20)
    (bundle / "weights").write_bytes(data)
    weights = [
        externalize(tensor(f"w{index}", np.frombuffer(data, np.float32)), "weights")
        for index in range(1000)
    ]
    proto = model(
        [helper.make_node("Add", ["x", "w0"], ["y"])], [value("x", 1)], [value("y", "n")], weights
    )
    write(proto, bundle / "model.onnx")
    with pytest.raises(InvalidModel, match="over and over"):
        read_bundle(bundle, bundle.parent / "original.onnx", ModelLimits())


@pytest.mark.parametrize("names", [[], ["a.onnx", "b.onnx"], ["a.onnx", "b/b.onnx"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_bundle_without_exactly_one_graph(tmp_path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        archive.writestr("readme.txt", "hello")
        for name in names:
            archive.writestr(name, mlp().SerializeToString())
    refused(tmp_path / "upload", "exactly one .onnx")


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

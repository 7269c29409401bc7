"""External data and bundles that reach out of bounds are refused in words that say why."""

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
    externalize,
    mlp,
    model,
    refused,
    tensor,
    value,
    write,
)
from workers.compression.intake.formats.onnx import read_bundle
from workers.compression.intake.limits import ModelLimits

SECRET = b"\x00\x00\x80?" * 8


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A bundle's directory; beside it, out of bounds, a file with a secret."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "bundle" / "b").mkdir(parents=True)
    yield tmp_path / "bundle"
    assert (tmp_path / "secret").read_bytes() == SECRET


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

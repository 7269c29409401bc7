"""A graph on disk is self-contained, and the same graph gives the same bytes."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from app.domain.problems import InvalidModel
from tests.workers.intake.models import convnet, externalize, mlp, write
from workers.compression.delivery.form import pack
from workers.compression.graph import load as graph_load
from workers.compression.graph import runtime
from workers.compression.graph.load import files_of, load, make_self_contained, save


def answer(path: Path) -> np.ndarray:
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    return runtime.run(runtime.open_session(path), {"x": x})["y"]


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    source = write(convnet(), tmp_path / "model.onnx")
    save(load(source), tmp_path / "a.onnx")
    save(load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    np.testing.assert_array_equal(answer(source), answer(tmp_path / "b.onnx"))


def test_documentation_and_notes_of_exporters_stay_out(tmp_path: Path) -> None:
    proto = mlp()
    proto.doc_string = proto.graph.doc_string = proto.graph.node[0].doc_string = "/home/secret"
    for holder in (proto, proto.graph, proto.graph.node[0], proto.graph.input[0]):
        entry = holder.metadata_props.add()
        entry.key, entry.value = "pkg.torch.stack", "/home/secret"
    save(load(write(proto, tmp_path / "model.onnx")), tmp_path / "clean.onnx")
    assert b"secret" not in (tmp_path / "clean.onnx").read_bytes()


@pytest.mark.parametrize("limit", [1 << 31, 0], ids=["one file", "external weights"])
def test_metadata_of_the_model_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(graph_load, "INLINE_LIMIT", limit)
    proto = mlp()
    onnx.helper.set_model_props(proto, {"names": "{0: 'cat'}", "planish.stored": "FLOAT16"})
    save(load(write(proto, tmp_path / "model.onnx")), tmp_path / "kept.onnx")
    kept = onnx.load(tmp_path / "kept.onnx").metadata_props
    assert [(entry.key, entry.value) for entry in kept] == [("names", "{0: 'cat'}")]


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    proto = mlp()
    nodes = list(proto.graph.node)[::-1]
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    save(load(write(proto, tmp_path / "model.onnx")), tmp_path / "sorted.onnx")
    onnx.checker.check_model(str(tmp_path / "sorted.onnx"))


def test_a_bundle_becomes_one_file(tmp_path: Path) -> None:
    expected = answer(write(convnet(), tmp_path / "whole.onnx"))
    proto, data = external(tmp_path)
    make_self_contained(proto, tmp_path, tmp_path / "one.onnx")
    data.unlink()
    np.testing.assert_array_equal(answer(tmp_path / "one.onnx"), expected)


def external(directory: Path) -> tuple[onnx.ModelProto, Path]:
    """Return a model whose kernel lies in a file beside it."""
    proto = convnet()
    kernel = proto.graph.initializer[0]
    data = directory / "kernel.bin"
    data.write_bytes(b"padding!" + kernel.raw_data)
    externalize(kernel, "kernel.bin", offset="8")
    return proto, data


class TestPastTheLimitOfOneFile:
    """Weights past 2 GiB stay beside the graph; the limit is lowered to see it happen."""

    @pytest.fixture(autouse=True)
    def _low_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(graph_load, "INLINE_LIMIT", 1300)
        monkeypatch.setattr(graph_load, "_KEEP_INLINE", 256)

    def test_an_upload_keeps_one_data_file_and_still_runs(self, tmp_path: Path) -> None:
        (tmp_path / "upload").mkdir()
        proto, _ = external(tmp_path / "upload")
        make_self_contained(proto, tmp_path / "upload", tmp_path / "big.onnx")
        assert (tmp_path / "big.onnx.data").stat().st_size == 6 * 3 * 9 * 4
        expected = answer(write(convnet(), tmp_path / "whole.onnx"))
        np.testing.assert_array_equal(answer(tmp_path / "big.onnx"), expected)

    def test_saved_loaded_and_packed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(graph_load, "INLINE_LIMIT", 500)
        source = write(convnet(), tmp_path / "whole.onnx")
        save(load(source), tmp_path / "big.onnx")
        assert [file.name for file in files_of(tmp_path / "big.onnx")] == [
            "big.onnx",
            "big.onnx.data",
        ]
        again = load(tmp_path / "big.onnx")
        assert isinstance(again.graph.initializers["k"].const_value, ir.ExternalTensor)
        np.testing.assert_array_equal(answer(tmp_path / "big.onnx"), answer(source))
        for name in ("a.zip", "b.zip"):
            pack(files_of(tmp_path / "big.onnx"), tmp_path / name)
        assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
        with zipfile.ZipFile(tmp_path / "a.zip") as packed:
            packed.extractall(tmp_path / "unpacked")
        np.testing.assert_array_equal(answer(tmp_path / "unpacked/big.onnx"), answer(source))


def test_load_refuses_external_data_elsewhere(tmp_path: Path) -> None:
    proto, _ = external(tmp_path)
    (tmp_path / "inner").mkdir()
    proto.graph.initializer[0].external_data[0].value = "../kernel.bin"
    with pytest.raises(InvalidModel, match="outside of the upload"):
        load(write(proto, tmp_path / "inner" / "model.onnx"))

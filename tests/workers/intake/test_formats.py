"""What is not read here is recognised by its bytes and told what to upload instead."""

import gzip
import zipfile
from pathlib import Path

import pytest

from app.domain.directory import InspectModel
from app.domain.problems import InvalidModel, NotAvailable
from workers.compression.intake.inspect import inspect_model


def refused(upload: Path, words: str) -> None:
    directory = upload.parent / "job"
    directory.mkdir()
    with pytest.raises(InvalidModel, match=words):
        inspect_model(upload, directory, order=InspectModel(may_run_code=True))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty|not read here"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5 file is broken"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(64), "tf2onnx"),
        (b"\x08\x01\x12\x07\n\x05\x12\x03\n\x01x", "SavedModel.*--saved-model"),
        (b"\n\x0c\n\x01x\x12\x07NoOp", "frozen graph.*--graphdef"),
        (b"\x08\x04\x12\x07\n\x05\n\x01x\x1a\x00", "Core ML"),
        (b"\x80\x02}q\x00.", r"pickle.*torch\.jit\.save.*from_torch"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "0 weights without their network"),
        (b"hello, world", "text that begins 'hello, world', not a model"),
        (b"row,value\n" * 9, "text that begins 'row,value"),
        (b"caf\xc3\xa9 " * 200, "text that begins"),
        (b"\xff" * 100, "begins with the bytes ff ff ff"),
        (bytes(400), "nothing but zeros.*Fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS.*git lfs pull"),
        (b"<!doctype html><title>Log in", "web page.*Download the file itself"),
        (b'{"detail": "not found"}', "JSON text"),
        (b"\x93NUMPY\x01\x00", "NumPy array.*as data"),
        (b"PAR1" + bytes(40), "Parquet.*Upload it as data"),
        (gzip.compress(b"\x08\x08 an onnx file" * 99, mtime=0), "one packed file.*gunzip"),
        (gzip.compress(b"", mtime=0), "broken|no files"),
    ],
)
def test_other_formats_are_told_what_to_upload(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "upload").write_bytes(data)
    refused(tmp_path / "upload", words)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["m/data.pkl", "m/version"], "checkpoint is broken"),
        (["archive_format", "models/model.json"], "torch.export cannot be opened"),
        (["config.json", "model.safetensors"], "not readable JSON"),
        (["config.json", "pytorch_model.bin"], r"safetensors.*save_pretrained"),
        (["config.json", "model.weights.h5"], "not readable JSON"),
        (["m/saved_model.pb", "m/variables/x"], "--saved-model"),
        (["m.mlpackage/Manifest.json", "m.mlpackage/Data/model.mlmodel"], "Core ML"),
        (["x.npy", "targets.npy"], r"found: targets.npy, x.npy\. These are arrays"),
        ([f"{n}.txt" for n in range(7)], "found: 0.txt, .* and 2 more"),
    ],
)
def test_other_frameworks_archives_are_told_what_to_upload(
    tmp_path: Path, names: list[str], words: str
) -> None:
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    refused(tmp_path / "upload", words)


@pytest.mark.parametrize(
    "names", [["config.json", "model.weights.h5"], ["m/code/m.py", "m/constants.pkl"]]
)
def test_a_format_that_runs_code_is_not_opened_where_that_is_not_confined(
    tmp_path: Path, names: list[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    with pytest.raises(NotAvailable, match="planish doctor"):
        inspect_model(tmp_path / "upload", tmp_path)


def test_a_zip_whose_directory_is_a_bomb_is_not_listed(tmp_path: Path) -> None:
    """The directory's size is looked at before a hundred thousand entries are read."""
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        for number in range(200):
            archive.writestr(f"{number}" * 80, b"")
    data = bytearray((tmp_path / "upload").read_bytes())
    data[-10:-6] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "upload").write_bytes(bytes(data))
    refused(tmp_path / "upload", "more than 10000 entries")

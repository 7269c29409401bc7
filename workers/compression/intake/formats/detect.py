"""Recognises an upload's format by its bytes; file names are not trusted."""

import zipfile
from enum import Enum
from pathlib import Path, PurePosixPath

from app.domain.contents import is_text
from workers.compression.intake import zips
from workers.compression.intake.formats.protobuf import keys_of


class Format(Enum):
    """The format of an upload; the value is its name in messages."""

    ONNX = "ONNX"
    ARCHIVE = "An archive"
    PICKLE = "A Python pickle"
    TORCHSCRIPT = "A TorchScript program"
    TORCH_EXPORT = "A program of torch.export"
    CHECKPOINT = "A PyTorch checkpoint"
    HUGGINGFACE = "A Hugging Face directory"
    KERAS = "A Keras archive"
    HDF5 = "An HDF5 file (Keras .h5)"
    SAVED_MODEL = "A TensorFlow SavedModel"
    FROZEN_GRAPH = "A frozen graph of TensorFlow"
    TFLITE = "A TensorFlow Lite model"
    COREML = "A Core ML model"
    GGUF = "A GGUF file"
    SAFETENSORS = "A safetensors file"
    UNKNOWN = "This format"


LEGACY_CHECKPOINT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle of a file that torch wrote before 1.6: a number that stands for the format."""

_MAGIC: tuple[tuple[int, bytes | tuple[bytes, ...], Format], ...] = (
    (0, b"GGUF", Format.GGUF),
    (0, b"\x89HDF\r\n\x1a\n", Format.HDF5),
    (4, b"TFL3", Format.TFLITE),
    (0, LEGACY_CHECKPOINT, Format.CHECKPOINT),
    (0, (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), Format.PICKLE),
    (8, (b'{"', b"{}"), Format.SAFETENSORS),
)
"""Magic bytes: offset, bytes and format."""

_PROTOBUF: tuple[tuple[bytes, Format], ...] = (
    (b"\n\n", Format.FROZEN_GRAPH),
    (b"\x08\x12\n\n", Format.COREML),
    (b"\x08\x12\n", Format.SAVED_MODEL),
)
"""Keys of protobuf files that ONNX cannot have: it begins with a number, and then has text."""

_HEAD = 512
_MAX_DIRECTORY = 16 << 20
"""The most bytes of a zip's directory that is examined; unpacking refuses larger ones."""

_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
_TAR_MAGIC = slice(257, 262)
_ONNX_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
"""Numbers of ModelProto's fields: what a file's first protobuf key may be."""


def detect(path: Path) -> Format:
    """Return the format of a file, recognised by its first bytes or by the names in an archive."""
    head = head_of(path)
    if is_archive(head):
        return _inside_archive(path) if head.startswith(b"PK") else Format.ARCHIVE
    for offset, magic, file_format in _MAGIC:
        if head.startswith(magic, offset):
            return file_format
    keys = keys_of(head)
    for first, file_format in _PROTOBUF:
        if keys.startswith(first) and not is_text(head):
            return file_format
    if head and head[0] >> 3 in _ONNX_FIELDS and head[0] & 7 in {0, 2} and not is_text(head):
        return Format.ONNX
    return Format.UNKNOWN


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file, by which it is recognised."""
    with path.open("rb") as file:
        return file.read(_HEAD)


def is_archive(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is a zip or a tar, packed or not."""
    return head.startswith(_ARCHIVES) or head[_TAR_MAGIC] == b"ustar"


def _inside_archive(path: Path) -> Format:
    """Distinguish archives of frameworks from bundles by the names in the zip's directory."""
    try:
        if zips.directory_bytes(path) > _MAX_DIRECTORY:
            return Format.ARCHIVE
        with zipfile.ZipFile(path) as archive:
            paths = archive.namelist()
    except zips.ERRORS:
        return Format.ARCHIVE
    names = {PurePosixPath(path).name for path in paths}
    code = any("/code/" in f"/{path}" for path in paths)
    weights = any(name.endswith((".safetensors", ".bin")) for name in names)
    kinds = {
        Format.ARCHIVE: any(name.endswith(".onnx") for name in names),
        Format.TORCHSCRIPT: "constants.pkl" in names and code,
        Format.TORCH_EXPORT: bool({"archive_format", "serialized_exported_program.json"} & names),
        Format.CHECKPOINT: "data.pkl" in names,
        Format.KERAS: {"config.json", "model.weights.h5"} <= names,
        Format.SAVED_MODEL: "saved_model.pb" in names,
        Format.COREML: any(name.endswith(".mlmodel") for name in names),
        Format.HUGGINGFACE: bool({"config.json", "adapter_config.json"} & names) and weights,
    }
    return next((kind for kind, matches in kinds.items() if matches), Format.ARCHIVE)

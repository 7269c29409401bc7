"""Reads an upload of any format, recognised by its bytes, and writes its graph."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from app.domain import contents
from app.domain.directory import InspectModel
from app.domain.models import Conversion, ModelFormat
from app.domain.problems import InvalidModel, NotAvailable
from workers.compression.intake.archive import unpack
from workers.compression.intake.formats.detect import Format, detect, head_of
from workers.compression.intake.formats.onnx import read_bundle, read_file
from workers.compression.intake.limits import ArchiveLimits, ModelLimits
from workers.compression.intake.sources.program import Program
from workers.compression.intake.stated import state_inputs


@dataclass(frozen=True)
class Accepted:
    """An upload that was checked and written as a graph."""

    opset: int
    """The opset of the exported graph."""
    format: ModelFormat = "onnx"
    """The format of the upload."""
    conversion: Conversion | None = None
    """How an upload of another format was converted; None for ONNX."""


def read_model(upload: Path, target: Path, limits: ModelLimits, order: InspectModel) -> Accepted:
    """Read an uploaded model of any supported format and write it, self-contained, to ``target``.

    Raises:
        InvalidModel: the upload is broken, hostile, or of an unsupported format.
        NotAvailable: opening it runs code, and this machine cannot confine that.
    """
    file_format = detect(upload)
    if file_format in READERS:
        opset = READERS[file_format](upload, target, limits)
        if order.hints.inputs is not None:
            state_inputs(target, order.hints.inputs)
        return Accepted(opset)
    if file_format in SOURCES:
        return _convert(SOURCES[file_format], upload, target, limits, order)
    if file_format in INSTEAD:
        raise InvalidModel(f"{file_format.value} is not read here. {INSTEAD[file_format]}")
    raise InvalidModel(contents.unknown("model", head_of(upload)))


def _read_archive(upload: Path, target: Path, limits: ModelLimits) -> int:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="bundle-") as scratch:
        unpack(upload, Path(scratch), ArchiveLimits())
        return read_bundle(Path(scratch), target, limits)


READERS: dict[Format, Callable[[Path, Path, ModelLimits], int]] = {
    Format.ONNX: read_file,
    Format.ARCHIVE: _read_archive,
}


@dataclass(frozen=True)
class SourceFormat:
    """A format of another framework."""

    format: ModelFormat
    reader: str
    """``module:function`` below ``intake.sources``; imported only for such a file."""
    runs_code: bool
    """Whether opening such a file may run code that is in it."""


SOURCES: dict[Format, SourceFormat] = {
    Format.KERAS: SourceFormat("keras", "keras:read_archive", runs_code=True),
    Format.HDF5: SourceFormat("keras", "keras:read_hdf5", runs_code=True),
    Format.TORCHSCRIPT: SourceFormat("torchscript", "torchscript:read", runs_code=True),
    Format.TORCH_EXPORT: SourceFormat("torch_export", "torch_export:read", runs_code=True),
    Format.CHECKPOINT: SourceFormat("safetensors", "checkpoint:read_checkpoint", runs_code=True),
    Format.SAFETENSORS: SourceFormat("safetensors", "checkpoint:read_safetensors", runs_code=False),
    Format.HUGGINGFACE: SourceFormat("huggingface", "huggingface:read", runs_code=False),
}


def is_converted(upload: Path) -> bool:
    """Return whether an upload is a file of another framework."""
    return detect(upload) in SOURCES


def open_program(upload: Path, order: InspectModel) -> Program:
    """Open another framework's file; the framework is imported here.

    Raises:
        InvalidModel: the file is broken or hostile.
        NotAvailable: opening it runs code, and this machine cannot confine that.
    """
    source = SOURCES[detect(upload)]
    if source.runs_code and not order.may_run_code:
        raise NotAvailable(
            "A file of this format runs code while it is opened, and this machine cannot confine"
            " that (see 'planish doctor'). Allow namespaces to the worker, or export the model to"
            " ONNX where it was trained and upload the .onnx file."
        )
    module, _, function = source.reader.partition(":")
    read = getattr(import_module(f"workers.compression.intake.sources.{module}"), function)
    program: Program = read(upload, order.hints)
    return program


def _convert(
    source: SourceFormat, upload: Path, target: Path, limits: ModelLimits, order: InspectModel
) -> Accepted:
    program = open_program(upload, order)
    from workers.compression.intake.sources.conversion import convert

    opset, conversion = convert(program, target, limits)
    return Accepted(opset, source.format, conversion)


INSTEAD: dict[Format, str] = {
    Format.PICKLE: contents.PICKLE.instead["model"],
    Format.SAVED_MODEL: "Where TensorFlow is, run pip install tf2onnx and"
    " python -m tf2onnx.convert --saved-model DIR --output model.onnx, and upload the result; the"
    " Python client does both with planish.from_tensorflow(path).",
    Format.FROZEN_GRAPH: "Where TensorFlow is, run pip install tf2onnx and"
    " python -m tf2onnx.convert --graphdef model.pb --inputs IN:0 --outputs OUT:0 --output"
    " model.onnx, with the names of its ends, and upload the result.",
    Format.TFLITE: "Where TensorFlow is, run pip install tf2onnx and"
    " python -m tf2onnx.convert --tflite model.tflite --output model.onnx, and upload the result;"
    " the Python client does both with planish.from_tensorflow(path).",
    Format.COREML: "Upload the model that it was made of: an .onnx file, or a file of Keras or"
    " PyTorch.",
    Format.GGUF: "Upload the ONNX export of the original model (optimum-cli export onnx).",
}

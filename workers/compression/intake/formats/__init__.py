"""Which format an upload is in, by its bytes, and how it becomes a graph."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from app.domain.problems import InvalidModel
from workers.compression.intake.archive import unpack
from workers.compression.intake.formats.detect import Format, detect
from workers.compression.intake.formats.onnx import read_bundle, read_file
from workers.compression.intake.limits import ArchiveLimits, ModelLimits


def read_model(upload: Path, target: Path, limits: ModelLimits) -> int:
    """Read an uploaded model of any supported format and write it, self-contained, to ``target``.

    Returns:
        The opset that it was exported with.

    Raises:
        InvalidModel: it is broken, hostile, or of a format that is not read here.
    """
    found = detect(upload)
    reader = READERS.get(found)
    if reader is None:
        raise InvalidModel(f"{found.value} is not read here. {INSTEAD[found]}")
    return reader(upload, target, limits)


def _read_archive(upload: Path, target: Path, limits: ModelLimits) -> int:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="bundle-") as scratch:
        unpack(upload, Path(scratch), ArchiveLimits())
        return read_bundle(Path(scratch), target, limits)


READERS: dict[Format, Callable[[Path, Path, ModelLimits], int]] = {
    Format.ONNX: read_file,
    Format.ARCHIVE: _read_archive,
}

_TORCH = (
    "Export the model with torch.onnx.export(model, (example,), 'model.onnx', dynamo=True) and"
    " upload the .onnx file (in one zip with its .onnx.data, if there is one)."
)
_KERAS = "Export the model with model.export('model.onnx', format='onnx') and upload the result."

INSTEAD: dict[Format, str] = {
    Format.PICKLE: f"A pickle runs code when it is opened. {_TORCH}",
    Format.TORCH: _TORCH,
    Format.KERAS: _KERAS,
    Format.HDF5: _KERAS,
    Format.SAVED_MODEL: "Convert it with python -m tf2onnx.convert --saved-model DIR --output"
    " model.onnx and upload the result.",
    Format.TFLITE: "Convert it with python -m tf2onnx.convert --tflite model.tflite --output"
    " model.onnx and upload the result.",
    Format.GGUF: "Upload the ONNX export of the original model (optimum-cli export onnx).",
    Format.SAFETENSORS: f"It holds weights without the network. {_TORCH}",
    Format.UNKNOWN: "Upload an .onnx file, or a zip or tar of one with its external data.",
}

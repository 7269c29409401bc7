"""The formats that a graph is delivered in: one table."""

from importlib import metadata

from app.domain.targets import OutputFormat
from workers.compression.delivery import onnx, openvino
from workers.compression.delivery.form import Form

FORMS: dict[OutputFormat, Form] = {
    "onnx": onnx.ONNX,
    "ort": onnx.ORT,
    "openvino": openvino.OPENVINO,
}


def runtimes() -> dict[OutputFormat, tuple[str, str]]:
    """Return the formats that can be made here, each with the name and version of its runtime."""
    return {
        name: (form.runtime, version)
        for name, form in FORMS.items()
        if (version := _version(form.package))
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

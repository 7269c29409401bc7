"""The table of delivery formats."""

from collections.abc import Container, Iterable
from importlib import metadata

from app.domain.targets import OutputFormat, ToolName
from workers.compression.delivery import coreml, onnx, openvino, tools, torch_program, web
from workers.compression.delivery.form import Form
from workers.compression.delivery.grids import Grids
from workers.compression.delivery.home import archive

_LITERT = Grids(float_weights=True, softmax=True, in_float32=True)

FORMS: dict[OutputFormat, Form] = {
    "onnx": onnx.ONNX,
    "ort": onnx.ORT,
    "openvino": openvino.OPENVINO,
    "coreml": coreml.COREML,
    "pt2": torch_program.PT2,
    "source": archive.SOURCE,
    "web": web.WEB,
    "litert": tools.form(tools.ToolFormat("litert", "ai-edge-litert", "model.tflite", _LITERT)),
    "litert_micro": tools.form(
        tools.ToolFormat("litert_micro", "tflite-micro", "model-micro.zip", _LITERT, most_runs=32)
    ),
    "executorch": tools.form(tools.ToolFormat("executorch", "executorch", "model.pte", Grids())),
}


def runtimes() -> dict[OutputFormat, tuple[str, str]]:
    """Return the formats that can be made here without a tool, with runtime and version."""
    return {
        name: (form.runtime, version)
        for name, form in FORMS.items()
        if form.package is not None and (version := _version(form.package))
    }


def missing(formats: Iterable[OutputFormat], tools: Container[ToolName]) -> list[OutputFormat]:
    """Return the formats that cannot be made here, given the tools that can be run."""
    available = runtimes()
    return [name for name in formats if name not in available and not _has_tool(name, tools)]


def _has_tool(name: OutputFormat, tools: Container[ToolName]) -> bool:
    return name in FORMS and FORMS[name].tool in tools


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

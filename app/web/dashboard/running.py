"""How each format is run: the lines of code that stand beside a download."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from app.domain.job_answers import Artifact
from app.domain.targets import OutputFormat

_ONNXRUNTIME = """import onnxruntime as ort
outputs = ort.InferenceSession("{file}").run(None, inputs)  # inputs: arrays by name"""

_LINES: dict[OutputFormat, str] = {
    "onnx": _ONNXRUNTIME,
    "ort": _ONNXRUNTIME,
    "openvino": """import openvino  # the zip holds model.xml and its weights
outputs = openvino.Core().compile_model("model.xml", "CPU")(inputs)  # inputs: arrays by name""",
    "litert": """from ai_edge_litert.interpreter import Interpreter
outputs = Interpreter("{file}").get_signature_runner()(**inputs)  # inputs: arrays by name""",
    "executorch": """import executorch.kernels.quantized  # on a phone: the runtime's own library
from executorch.runtime import Runtime
program = Runtime.get().load_program("{file}")
outputs = program.load_method("forward").execute(inputs)  # inputs: tensors, in order""",
    "pt2": """import torch
outputs = torch.export.load("{file}").module()(*inputs)  # inputs: tensors, in order""",
    "coreml": """import coremltools  # on an Apple system, beside the unpacked .mlpackage
outputs = coremltools.models.MLModel("model.mlpackage").predict(inputs)""",
    "web": """python3 -m http.server --directory {folder}  # the unpacked zip; then open
# http://127.0.0.1:8000 in a browser""",
}
"""By format; what is built into a program of its own, or goes back into a framework, has none."""

_PACKED = "model.onnx"
"""In the zip that a large ONNX model comes in, with its weights beside it."""


def lines(artifacts: Iterable[Artifact], names: Mapping[str, str]) -> dict[str, str]:
    """Return the lines of code that run each file, by the artifact's id.

    Args:
        artifacts: of a job.
        names: of their downloads, by the artifact's id; a file that was deleted just now has none.
    """
    return {
        artifact.id: _LINES[artifact.format].format(
            file=_file(artifact, names[artifact.id]), folder=PurePath(names[artifact.id]).stem
        )
        for artifact in artifacts
        if artifact.format in _LINES and artifact.id in names
    }


def _file(artifact: Artifact, name: str) -> str:
    return _PACKED if artifact.format == "onnx" and name.endswith(".zip") else name

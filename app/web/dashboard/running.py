"""How each format is run: the lines of code that stand beside a download."""

import json
from collections.abc import Iterable
from pathlib import PurePath

from app.domain.job_answers import Artifact
from app.domain.latencies import TimedRun
from app.domain.targets import OutputFormat

_ONNXRUNTIME = """import numpy as np
import onnxruntime as ort
inputs = {arrays}
outputs = ort.InferenceSession("{file}").run(None, inputs)"""

_LINES: dict[OutputFormat, str] = {
    "onnx": _ONNXRUNTIME,
    "ort": _ONNXRUNTIME,
    "openvino": """import numpy as np
import openvino
import shutil
shutil.unpack_archive("{file}", "{folder}")  # model.xml and its weights
inputs = {arrays}
exact = {{"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}}
model = openvino.Core().compile_model("{folder}/model.xml", "CPU", exact)  # as it was measured
outputs = model(inputs)""",
    "litert": """import numpy as np
from ai_edge_litert.interpreter import Interpreter
inputs = {arrays}
outputs = Interpreter("{file}").get_signature_runner()(**inputs)""",
    "executorch": """import torch
import executorch.kernels.quantized  # on a phone: the runtime's own library
from executorch.runtime import Runtime
inputs = {tensors}
program = Runtime.get().load_program("{file}")
outputs = program.load_method("forward").execute(inputs)""",
    "pt2": """import torch
inputs = {tensors}
outputs = torch.export.load("{file}").module()(*inputs)""",
    "coreml": """import coremltools  # on an Apple system
import numpy as np
import shutil
shutil.unpack_archive("{file}", "{folder}")
inputs = {arrays}
outputs = coremltools.models.MLModel("{folder}/model.mlpackage").predict(inputs)""",
    "web": """python3 -m zipfile -e {file} {folder}
python3 -m http.server --directory {folder}  # then open http://127.0.0.1:8000 in a browser""",
}
"""By format; what is built into a program of its own, or goes back into a framework, has none."""

_PACKED = "model.onnx"
"""In the zip that a large ONNX model comes in, with its weights beside it."""


def lines(artifacts: Iterable[Artifact], run: TimedRun | None) -> dict[str, str]:
    """Return the lines of code that run each file, by the artifact's id.

    Args:
        artifacts: of a job.
        run: what the file was timed with, whose shapes the example has; None where that is not
            known.
    """
    reads = run.inputs if run else []
    arrays = [
        f"{json.dumps(each.name)}: np.zeros({tuple(each.shape)}, {each.dtype!r})" for each in reads
    ]
    tensors = [f"torch.zeros({tuple(each.shape)}, dtype=torch.{each.dtype})" for each in reads]
    return {
        artifact.id: _LINES[artifact.format].format(
            file=_file(artifact),
            folder=PurePath(artifact.filename).stem,
            arrays=_example("{", arrays, "}"),
            tensors=_example("[", tensors, "]"),
        )
        for artifact in artifacts
        if artifact.format in _LINES
    }


def _example(begin: str, parts: list[str], end: str) -> str:
    """Return what stands for the samples of whoever runs the file."""
    apart = "\n    " if len(parts) > 1 else ""
    inside = "".join(f"{apart}{part}," for part in parts) if apart else "".join(parts)
    return f"{begin}{inside}{apart[:1]}{end}  # put your samples in the place of the zeros"


def _file(artifact: Artifact) -> str:
    packed = artifact.format == "onnx" and artifact.filename.endswith(".zip")
    return _PACKED if packed else artifact.filename

"""How each format is run: the lines of code that stand beside a download."""

from app.domain.targets import OutputFormat

_ONNXRUNTIME = """import onnxruntime as ort
outputs = ort.InferenceSession("{file}").run(None, inputs)  # inputs: arrays by name"""

LINES: dict[OutputFormat, str] = {
    "onnx": _ONNXRUNTIME.format(file="model.onnx"),
    "ort": _ONNXRUNTIME.format(file="model.ort"),
    "openvino": """import openvino  # the zip holds model.xml and its weights
outputs = openvino.Core().compile_model("model.xml", "CPU")(inputs)  # inputs: arrays by name""",
    "litert": """from ai_edge_litert.interpreter import Interpreter
outputs = Interpreter("model.tflite").get_signature_runner()(**inputs)  # inputs: arrays by name""",
    "executorch": """import executorch.kernels.quantized  # on a phone: the runtime's own library
from executorch.runtime import Runtime
program = Runtime.get().load_program("model.pte")
outputs = program.load_method("forward").execute(inputs)  # inputs: tensors, in order""",
    "pt2": """import torch
outputs = torch.export.load("model.pt2").module()(*inputs)  # inputs: tensors, in order""",
    "coreml": """import coremltools  # on an Apple system, beside the unpacked .mlpackage
outputs = coremltools.models.MLModel("model.mlpackage").predict(inputs)""",
    "web": """python3 -m http.server --directory model-web  # the unpacked zip; then open
# http://127.0.0.1:8000 in a browser""",
}
"""By format; what is built into a program of its own, or goes back into a framework, has none."""

"""LiteRT (TensorFlow Lite): a ``.tflite`` by litert-torch, run by ai-edge-litert.

For microcontrollers the file is the same; see ``micro``.
"""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from app.domain.directory import ToolTask
from workers.tools import micro
from workers.tools.culprit import rounds
from workers.tools.rounding import real_values, rounded_values
from workers.tools.work import Arrays, Converter, work


def main(directory: Path) -> int:
    """Do the tasks for LiteRT in a job's directory."""
    runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
    micro_runtime = f"tflite-micro {metadata.version('tflite_micro')}, reference kernels"
    return work(
        directory,
        {
            "litert": Converter(runtime, convert, open_file),
            "litert_micro": Converter(micro_runtime, convert_for_micro, micro.open_file),
        },
    )


def convert(program: Any, _task: ToolTask, artifact: Path) -> None:
    """Convert an exported program, with the grids that stand in it where it rounds."""
    import litert_torch
    from litert_torch.quantize import pt2e_quantizer
    from litert_torch.quantize.quant_config import QuantConfig

    config = None
    if rounds(program):
        # Any static configuration will do: it says that the program's own grids are to be kept.
        static = pt2e_quantizer.get_symmetric_quantization_config()
        config = QuantConfig(pt2e_quantizer=pt2e_quantizer.PT2EQuantizer().set_global(static))
    module, arrays = program.module(), program.example_inputs[0]
    litert_torch.convert(module, arrays, quant_config=config).export(str(artifact))


def convert_for_micro(program: Any, task: ToolTask, artifact: Path) -> None:
    """Convert an exported program, and write it as a C array."""
    model = artifact.with_suffix(".tflite")
    convert(program, task, model)
    micro.write(model.read_bytes(), artifact)
    model.unlink()


def open_file(artifact: Path, task: ToolTask) -> Callable[[Arrays], Arrays]:
    """Open a file; what it reads and gives is in the order of the graph's inputs and outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact), num_threads=task.threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(arrays: Arrays) -> Arrays:
        for detail, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], rounded_values(array, detail))
        interpreter.invoke()
        return [real_values(interpreter.get_tensor(each["index"]), each) for each in outputs]

    return run

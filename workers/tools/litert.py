"""LiteRT (TensorFlow Lite): a ``.tflite`` by litert-torch, run by ai-edge-litert."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.directory import ToolTask
from workers.tools.work import Arrays, Converter, work


def main(directory: Path) -> int:
    """Do the tasks for LiteRT in a job's directory."""
    runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
    return work(directory, Converter("litert", runtime, convert, open_file))


def convert(program: Any, task: ToolTask, artifact: Path) -> None:
    """Convert an exported program, with the grids that stand in it where it rounds."""
    import litert_torch
    from litert_torch.quantize import pt2e_quantizer
    from litert_torch.quantize.quant_config import QuantConfig

    config = None
    if task.quantized:
        # Any static configuration will do: it says that the program's own grids are to be kept.
        static = pt2e_quantizer.get_symmetric_quantization_config()
        config = QuantConfig(pt2e_quantizer=pt2e_quantizer.PT2EQuantizer().set_global(static))
    module, arrays = program.module(), program.example_inputs[0]
    litert_torch.convert(module, arrays, quant_config=config).export(str(artifact))


def open_file(artifact: Path, task: ToolTask) -> Callable[[Arrays], Arrays]:
    """Open a file; what it reads and gives is in the order of the graph's inputs and outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact), num_threads=task.threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(arrays: Arrays) -> Arrays:
        for detail, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], _rounded(array, detail))
        interpreter.invoke()
        return [_real(interpreter.get_tensor(each["index"]), each) for each in outputs]

    return run


def _rounded(array: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    """Round what the file reads in integers, to its own grid; int64 is int32 there."""
    scale, zero = detail["quantization"]
    if not scale or array.dtype.kind != "f":
        same: NDArray[Any] = array.astype(detail["dtype"])
        return same
    ends = np.iinfo(detail["dtype"])
    rounded = np.clip(np.round(array / scale) + zero, ends.min, ends.max)
    integers: NDArray[Any] = rounded.astype(detail["dtype"])
    return integers


def _real(array: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    scale, zero = detail["quantization"]
    if not scale or array.dtype.kind == "f":
        return array
    real: NDArray[Any] = ((array.astype(np.float32) - zero) * scale).astype(np.float32)
    return real

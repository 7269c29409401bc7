"""TensorFlow Lite for microcontrollers: the ``.tflite`` as a C array, run by its interpreter.

The interpreter is that of the devices, with reference kernels, built for this machine.
"""

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.directory import ToolTask
from workers.tools.float_weights import store_floats
from workers.tools.micro_kernels import find_extremes_by_floats, select_by_newer
from workers.tools.micro_parts import in_few_parts
from workers.tools.printing import printed
from workers.tools.rounding import real_values, rounded_values
from workers.tools.tflite import code_of, packed, schema, unpacked
from workers.tools.work import Arrays, Refused, RefusedOperator

MAX_BYTES = 16 << 20
"""Of a model: about the flash of the largest microcontrollers."""
_ARENA = 64 << 20
"""Bytes that the interpreter gets here: one that gets too few may crash."""
_ARENA_STEP = 1024
_LINE = 12
_MENDS = store_floats, select_by_newer, find_extremes_by_floats, in_few_parts
"""What is changed in place, for the interpreter's kernels; each returns whether it found any."""
_NAMES = {"UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM"}
"""Kernels whose method of the resolver is not their name in camel case."""
_UNKNOWN = re.compile(r"Didn't find op for builtin opcode '(\w+)'")
_FAILED = re.compile(r"Node (\w+) \(number (\d+)f?\) failed to ")
"""What the interpreter prints of an operator that it has no kernel for, or that its kernel refuses.
"""

_HEADER = """\
// A model for TensorFlow Lite for microcontrollers, as a C array.
#ifndef PLANISH_MODEL_DATA_H_
#define PLANISH_MODEL_DATA_H_

extern const unsigned char g_model_data[];
extern const unsigned int g_model_data_size;

// The least tensor arena, in bytes, that the interpreter takes for the model on a 64-bit machine. A
// device may need another: measure it there.
constexpr int kTensorArenaSize = {arena};

#endif  // PLANISH_MODEL_DATA_H_
"""
_SOURCE = """\
#include "model_data.h"

alignas(16) const unsigned char g_model_data[] = {{
{rows}
}};
const unsigned int g_model_data_size = {size};
"""
_RESOLVER = """\
// The kernels that the model needs, and no others.
#ifndef PLANISH_OP_RESOLVER_H_
#define PLANISH_OP_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

using ModelOpResolver = tflite::MicroMutableOpResolver<{count}>;

inline TfLiteStatus RegisterOps(ModelOpResolver& resolver) {{
{lines}
  return kTfLiteOk;
}}

#endif  // PLANISH_OP_RESOLVER_H_
"""


def write(model: bytes, archive: Path) -> None:
    """Write a model as a zip: the ``.tflite``, the C array, and the resolver with its kernels.

    Weights that layers read as floats are floats in it; see ``float_weights``.

    Raises:
        Refused: it is too large.
        RefusedOperator: the interpreter has no kernel for an operator of it.
    """
    objects = unpacked(model)
    changed = [mend(objects) for mend in _MENDS]
    if any(changed):
        model = packed(objects, len(model))
    if len(model) > MAX_BYTES:
        raise Refused(
            f"the model has {len(model)} bytes, and {MAX_BYTES} are what microcontrollers hold at"
            " most: prune and quantize it"
        )
    names = list(_kernels(objects))
    methods = [f"  TF_LITE_ENSURE_STATUS(resolver.{_method(name)}());" for name in names]
    rows = [
        f"  {', '.join(f'0x{byte:02x}' for byte in model[start : start + _LINE])},"
        for start in range(0, len(model), _LINE)
    ]
    texts = {
        "model_data.h": _HEADER.format(arena=_least_arena(model, archive.parent)),
        "model_data.cc": _SOURCE.format(rows="\n".join(rows), size=len(model)),
        "op_resolver.h": _RESOLVER.format(count=len(names), lines="\n".join(methods)),
        "kernels.txt": "".join(f"{name}\n" for name in names),
    }
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(zipfile.ZipInfo("model.tflite"), model)
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(entry, text)


def open_file(archive: Path, _task: ToolTask) -> Callable[[Arrays], Arrays]:
    """Open the model in a zip on the interpreter of microcontrollers."""
    with zipfile.ZipFile(archive) as zipped:
        interpreter = _interpreter(zipped.read("model.tflite"), archive.parent)
    outputs = _count(interpreter.get_output_details)

    def run(arrays: Arrays) -> Arrays:
        for index, array in enumerate(arrays):
            detail = _detail(interpreter.get_input_details(index))
            interpreter.set_input(rounded_values(array, detail), index)
        try:
            interpreter.invoke()
        except RuntimeError as error:
            why = _why_it_fails(interpreter, archive.parent) or str(error)
            raise RefusedOperator(why) from error
        return [
            real_values(
                interpreter.get_output(index), _detail(interpreter.get_output_details(index))
            )
            for index in range(outputs)
        ]

    return run


def _why_it_fails(interpreter: Any, scratch: Path) -> str:
    """Run a model that fails once more, and return why, of what the interpreter prints then."""
    with printed(scratch) as read:
        try:
            interpreter.invoke()
        except RuntimeError:
            return refusal(read())
    return ""


def _kernels(model: Any) -> Iterator[str]:
    """Yield the names of the model's operators, each once, in order."""
    names = {
        code: name for name, code in vars(schema().BuiltinOperator).items() if isinstance(code, int)
    }
    kinds = (
        model.operatorCodes[operator.opcodeIndex]
        for graph in model.subgraphs
        for operator in graph.operators
    )
    yield from dict.fromkeys(names[code_of(kind)] for kind in kinds)


def _method(kernel: str) -> str:
    """Return the resolver's method that adds a kernel, such as ``AddDepthwiseConv2D``."""
    words = (word if re.match(r"\d", word) else word.capitalize() for word in kernel.split("_"))
    return f"Add{_NAMES.get(kernel) or ''.join(words)}"


def _least_arena(model: bytes, scratch: Path) -> int:
    """Return the bytes of an arena that the interpreter uses, rounded up to a kibibyte.

    Args:
        model: the ``.tflite`` file.
        scratch: a directory for what the interpreter prints.

    Raises:
        RefusedOperator: the interpreter refuses the model.
        Refused: it does not say what it has allocated.
    """
    interpreter = _interpreter(model, scratch)
    with printed(scratch) as read:
        interpreter.print_allocations()
        text = read()
    total = re.search(r"Arena allocation total (\d+) bytes", text)
    if total is None:
        raise Refused("the interpreter does not say how much memory the model takes")
    return -(-int(total[1]) // _ARENA_STEP) * _ARENA_STEP


def _interpreter(model: bytes, scratch: Path) -> Any:
    """Open a model on the interpreter of microcontrollers.

    Raises:
        RefusedOperator: it refuses the model; the text names the operator.
    """
    from tflite_micro.python.tflite_micro import runtime

    with printed(scratch) as read:
        try:
            return runtime.Interpreter.from_bytes(model, arena_size=_ARENA)
        except RuntimeError as error:
            raise RefusedOperator(refusal(read()) or str(error)) from error


def refusal(printed: str) -> str:
    """Return why the interpreter refuses a model, as its user should read it.

    Args:
        printed: what it has written to standard error.
    """
    if unknown := _UNKNOWN.search(printed):
        return (
            f"microcontrollers have no kernel for the operator {unknown[1]}. 'litert' runs it on"
            " larger devices; or train the model with another layer in its place."
        )
    said = " ".join(printed.split())
    if failed := _FAILED.search(printed):
        return (
            f"the kernel of the operator {failed[1]} (number {failed[2]} of the file) refuses it:"
            f" {said}"
        )
    return said


def _count(details: Callable[[int], Any]) -> int:
    count = 0
    while True:
        try:
            details(count)
        except (IndexError, RuntimeError, ValueError):
            return count
        count += 1


def _detail(detail: Any) -> dict[str, Any]:
    """Return a tensor's type and grid as LiteRT's interpreter says them."""
    grid = detail["quantization_parameters"]
    scales: NDArray[Any] = np.atleast_1d(grid["scales"])
    zeros: NDArray[Any] = np.atleast_1d(grid["zero_points"])
    if not scales.size:
        return {"dtype": detail["dtype"], "quantization": (0.0, 0)}
    return {"dtype": detail["dtype"], "quantization": (float(scales[0]), int(zeros[0]))}

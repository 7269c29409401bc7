"""ExecuTorch: a ``.pte`` for XNNPACK, run by ExecuTorch's own runtime."""

import re
from collections.abc import Callable
from copy import deepcopy
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from app.domain.directory import ToolTask
from workers.tools.flatbuffer import Schema
from workers.tools.printing import printed
from workers.tools.work import Arrays, Converter, RefusedOperator, work

_DEQUANTIZE = "dequantize_per_"
_FAILED = re.compile(r"Failed to create (\w+) node")
"""What XNNPACK prints of an operator that it cannot make."""


def main(directory: Path) -> int:
    """Do the tasks for ExecuTorch in a job's directory."""
    runtime = f"executorch {metadata.version('executorch')}, XNNPACK"
    return work(directory, {"executorch": Converter(runtime, convert, open_file)})


def convert(program: Any, _task: ToolTask, artifact: Path) -> None:
    """Lower an exported program: XNNPACK computes what it can, portable kernels the rest.

    XNNPACK computes a layer in integers if both its input and its output are rounded. Another layer
    with an int8 weight gets that weight in float, so that XNNPACK computes it too.
    """
    import executorch.kernels.quantized  # noqa: F401 (registers the kernels of rounding)
    from executorch.backends.xnnpack import serialization
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize
    from executorch.exir import to_edge_transform_and_lower

    from workers.tools.xnnpack import IntegersLeft, Partitioner

    schema = Schema(resources.files(serialization).joinpath("schema.fbs").read_text())
    # The function that this replaces starts a program, which the confinement forbids.
    xnnpack_graph_serialize.convert_to_flatbuffer = schema.write
    try:
        strict = Partitioner(leaves_integers=False)
        lowered = to_edge_transform_and_lower(deepcopy(program), partitioner=[strict])
    except IntegersLeft as left:
        _make_float(program, left.constants)
        partitioner = Partitioner(leaves_integers=True)
        lowered = to_edge_transform_and_lower(program, partitioner=[partitioner])
    artifact.write_bytes(lowered.to_executorch().buffer)


def open_file(artifact: Path, _task: ToolTask) -> Callable[[Arrays], Arrays]:
    """Open a file's one method.

    Raises:
        RefusedOperator: a kernel refuses its operator; the text names it.
    """
    import executorch.kernels.quantized  # noqa: F401 (registers the kernels of rounding)
    import torch
    from executorch.runtime import Runtime

    with printed(artifact.parent) as read:
        try:
            method = Runtime.get().load_program(artifact).load_method("forward")
        except RuntimeError as error:
            raise RefusedOperator(refusal(read()) or str(error)) from error

    def run(arrays: Arrays) -> Arrays:
        return [each.numpy() for each in method.execute([torch.from_numpy(a) for a in arrays])]

    return run


def refusal(said: str) -> str:
    """Return why XNNPACK refuses a file, as its user should read it; nothing if that is unknown.

    Args:
        said: what its runtime has written to standard error.
    """
    failed = _FAILED.search(said)
    return (
        f"XNNPACK refuses the operator {failed[1]} as this model has it. 'litert' may run it; or"
        " leave the layers around it in float ('ignore')."
        if failed
        else ""
    )


def _make_float(program: Any, names: set[str]) -> None:
    """Store constants of a program as the floats that their integers stand for, in place."""
    constants = program.graph_signature.inputs_to_lifted_tensor_constants
    for node in list(program.graph.nodes):
        if _DEQUANTIZE not in str(node.target) or constants.get(node.args[0].name) not in names:
            continue
        weight, name = node.args[0], constants[node.args[0].name]
        if not program.constants[name].is_floating_point():
            grid = [
                program.constants[constants[each.name]] if hasattr(each, "name") else each
                for each in node.args[1:]
            ]
            program.constants[name] = node.target(program.constants[name], *grid)
            weight.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(weight)
        program.graph.erase_node(node)
    program.graph_module.recompile()

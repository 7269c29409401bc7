"""ExecuTorch: a ``.pte`` for XNNPACK, run by ExecuTorch's own runtime.

It is not offered yet: its serializer starts a program (``flatc``), which the confinement forbids.
"""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from app.domain.directory import ToolTask
from workers.tools.work import Arrays, Converter, work


def main(directory: Path) -> int:
    """Do the tasks for ExecuTorch in a job's directory."""
    runtime = f"executorch {metadata.version('executorch')}, XNNPACK"
    return work(directory, Converter("executorch", runtime, convert, open_file))


def convert(program: Any, _task: ToolTask, artifact: Path) -> None:
    """Lower an exported program: XNNPACK computes what it can, portable kernels the rest."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    artifact.write_bytes(lowered.to_executorch().buffer)


def open_file(artifact: Path, _task: ToolTask) -> Callable[[Arrays], Arrays]:
    """Open a file's one method."""
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(artifact).load_method("forward")

    def run(arrays: Arrays) -> Arrays:
        return [each.numpy() for each in method.execute([torch.from_numpy(a) for a in arrays])]

    return run

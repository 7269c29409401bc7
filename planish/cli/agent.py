"""``planish agent``: this machine times files for the service."""

import os
import platform
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from planish.agent import timing
from planish.cli.asking import Url, asking, tell
from planish.cli.ending import at_once


def agent(
    target: Annotated[str, typer.Option(help="The name that jobs have as their target.")],
    threads: Annotated[
        int, typer.Option(min=1, help="Threads that files are timed with. Default: the cores.")
    ] = os.cpu_count() or 1,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=timing.LONGEST_SECONDS,
            help="The most that one file is run for, by turns.",
        ),
    ] = timing.SECONDS,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="End after so many files. Default: never.")
    ] = None,
    url: Url = None,
) -> None:
    """Register this machine as a device, and time results of jobs that have it as their target.

    It needs the client and onnxruntime: pip install 'planish[agent]'. It asks the service for work
    until Ctrl-C; another agent of the same name takes over from it.
    """
    from planish import agent as running
    from planish._packages import package

    with at_once():
        runtime = package("onnxruntime", "numpy")
    with asking(url) as client, tempfile.TemporaryDirectory(prefix="planish-agent-") as place:
        device = client.devices.register(
            target,
            runtime=f"onnxruntime {runtime.__version__}, CPUExecutionProvider",
            machine=machine(),
            threads=threads,
            formats=["onnx"],
        )
        tell(f"{device.name} ({device.id}) asks {client.url} for work; Ctrl-C ends it.")
        running.serve(client, device, Path(place), tell, seconds=seconds, most=tasks)


def machine() -> str:
    """Return the processor and the system of this machine, in words."""
    processor = platform.processor() or platform.machine() or "an unknown processor"
    return f"{processor}, {platform.system()} {platform.release()}"[:200]

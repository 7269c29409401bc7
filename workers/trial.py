"""Runs a small test job, as users send them, to find out whether this machine can run jobs.

The job uses everything that every job uses: a confined process, reading of an upload, the normal
form, a step, a written graph, and measurements of size, latency and memory. Testing these parts
separately is not enough: on some machines each part worked and no job completed.
"""

from base64 import b64decode
from pathlib import Path

from app.domain.directory import ORDER, UPLOAD, Compress
from app.domain.problems import NothingChanged
from app.domain.steps.quantize import Quantize
from app.settings import Engine
from workers.runs import answers
from workers.sandbox import directories
from workers.sandbox.limits import Exit, Limits
from workers.sandbox.server import Sandbox, SandboxError

SECONDS = 120.0
"""The time limit of the test job; on an idle machine it takes less than a second."""

# An ONNX file: y (float[N, 4]) = MatMul(x (float[N, 4]), w (float[4, 4])).
NETWORK = b64decode(
    "CAg6lQEKEwoBeAoBdxIBeSIGTWF0TXVsOgASBXRyaWFsKksIBAgEEAEiQAAAgD8AAABAAABAQAAAgEAAAIC/AAAAwAAAQMAA"
    "AIDAAACAQAAAQEAAAABAAACAPwAAgMAAAEDAAAAAwAAAgL9CAXdaFAoBeBIPCg0IARIJCgMSAU4KAggEYhQKAXkSDwoNCAES"
    "CQoDEgFOCgIIBEIECgAQEQ=="
)


def limits(engine: Engine) -> Limits:
    """Return the limits of a job, with a shorter time limit."""
    return Limits(
        memory_bytes=engine.memory_bytes,
        cpu_seconds=None,
        file_bytes=engine.directory_bytes,
        directory_bytes=engine.directory_bytes,
        processes=engine.processes,
        wall_seconds=SECONDS,
    )


def shortcoming(
    sandbox: Sandbox, directory: Path, engine: Engine, *, entry: str, threads: int
) -> str | None:
    """Run the test job; return why it did not complete, or None if it did.

    Args:
        sandbox: the sandbox to run it in.
        directory: the directory of this process; the job gets directories in it.
        engine: the settings with the limits of a job.
        entry: the engine, as "module:function".
        threads: number of threads to compute with.
    """
    with directories.place(directory) as place:
        (place.engine / UPLOAD).write_bytes(NETWORK)
        order = Compress(steps=[Quantize(mode="dynamic")], threads=threads)
        (place.engine / ORDER).write_text(order.model_dump_json())
        try:
            ended = sandbox.start(place.engine, limits(engine), entry=entry).wait(SECONDS)
        except SandboxError as error:
            return str(error)
        result = answers.result(place)
        if result is None:
            return f"a small job {_end(ended)}: {answers.last_words(place) or 'it said nothing'}"
        # A step may change nothing in so small a network; that is no fault of the machine.
        if result.problem is not None and result.problem.type != NothingChanged.type:
            return f"a small job failed: {result.problem.detail}"
        return None if result.artifacts else "a small job came to its end without a result"


def _end(ended: Exit | None) -> str:
    if ended is None or ended.reason == "deadline":
        return "took too long"
    if ended.reason == "memory":
        return "ran out of memory (ENGINE_MEMORY_BYTES, or the machine's)"
    if ended.reason == "storage":
        return "ran out of storage (ENGINE_DIRECTORY_BYTES, or the disk's)"
    return f"died of signal {ended.signal}" if ended.signal else f"ended with {ended.code}"

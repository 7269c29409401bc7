"""A whole small job, as users send them, to see whether this machine can do any.

It takes what every job takes: a confined process, the upload read and brought to normal form, a
step, a graph written, sizes, latencies and memory measured. Parts that were tried out one by one
have all been found good on machines where no job came to its end.
"""

from base64 import b64decode
from pathlib import Path

from app.domain.directory import ORDER, UPLOAD, Compress
from app.domain.problems import NothingChanged
from app.domain.steps.quantize import Quantize
from app.settings import Engine
from workers.runs import answers
from workers.sandbox import directories
from workers.sandbox.server import Exit, Limits, Sandbox, SandboxError

SECONDS = 120.0
"""After which it is given up; on an idle machine it takes less than one."""

# An ONNX file: y (float[N, 4]) = MatMul(x (float[N, 4]), w (float[4, 4])).
NETWORK = b64decode(
    "CAg6lQEKEwoBeAoBdxIBeSIGTWF0TXVsOgASBXRyaWFsKksIBAgEEAEiQAAAgD8AAABAAABAQAAAgEAAAIC/AAAAwAAAQMAA"
    "AIDAAACAQAAAQEAAAABAAACAPwAAgMAAAEDAAAAAwAAAgL9CAXdaFAoBeBIPCg0IARIJCgMSAU4KAggEYhQKAXkSDwoNCAES"
    "CQoDEgFOCgIIBEIECgAQEQ=="
)


def limits(engine: Engine) -> Limits:
    """Return what a job may use here, for a run of ours that is short."""
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
    """Do the job; return why it does not come to its end, or None where it does.

    Args:
        sandbox: where it runs.
        directory: of this process; the job gets a place in it.
        engine: what a job may use.
        entry: the engine, as "module:function".
        threads: to compute with.
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
        # Whether a step is worth it for so small a network is no fault of the machine.
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

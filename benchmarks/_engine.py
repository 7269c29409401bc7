"""The engine as users get it: a job directory, in a process of its own."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from app.domain.directory import ARTIFACTS, DATASET, ORDER, RESULT, UPLOAD, Result
from app.domain.reports import Report
from workers.sandbox.server import WITHOUT_THREADS

SEED = 0
THREADS = 1


def order_of(
    steps: Sequence[Mapping[str, Any]],
    seed: int = SEED,
    bound: float | None = None,
    threads: int = THREADS,
) -> dict[str, Any]:
    """Return what a job directory says is to be done; ``bound`` is the loss that is allowed."""
    order = {"kind": "compress", "steps": steps, "seed": seed, "threads": threads}
    return order if bound is None else order | {"require": {"max_quality_drop": bound}}


def run(
    model: Path,
    dataset: Path,
    steps: Sequence[Mapping[str, Any]],
    keep: Path | None = None,
    seed: int = SEED,
    bound: float | None = None,
    threads: int = THREADS,
    environment: Mapping[str, str] | None = None,
    engine: Sequence[str] = ("-m", "workers.compression"),
    seconds: int | None = None,
) -> Result:
    """Run a job and return how it ended.

    Args:
        model: as ONNX.
        dataset: as users upload it.
        steps: as users ask for them.
        keep: where the compressed model is put, if there is one.
        seed: of the job.
        bound: the greatest loss that the job allows.
        threads: of the processor.
        environment: of the process; None for that of this one.
        engine: the arguments with which Python runs a job directory.
        seconds: of processor time, after which it is killed.

    Raises:
        SystemExit: the engine failed, which no order may make it do, or was killed.
    """
    with tempfile.TemporaryDirectory(prefix="planish-bench-") as name:
        directory = Path(name)
        (directory / UPLOAD).symlink_to(model)
        (directory / DATASET).symlink_to(dataset)
        (directory / ORDER).write_text(json.dumps(order_of(steps, seed, bound, threads)))
        command = [sys.executable, *engine, name]
        ran = subprocess.run(
            command,
            env={**(environment or os.environ), **WITHOUT_THREADS},
            check=False,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=None if seconds is None else partial(limited, seconds),
        )
        if ran.returncode:
            sys.exit(f"{steps}: {ran.stderr}")
        result = Result.model_validate_json((directory / RESULT).read_bytes())
        if keep is not None and result.artifacts:
            shutil.copyfile(directory / ARTIFACTS / result.artifacts[0].path, keep)
    return result


def limited(seconds: int) -> None:
    """Let this process compute for so long, other work on the machine not counted."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def row(report: Report) -> dict[str, float]:
    """Return the figures of a finished job, those of its model relative to the original's."""
    before, after = report.baseline, report.compressed
    latency = report.evaluation.latency
    assert latency is not None, "the runtime runs it"
    return {
        "size_ratio": before.size_bytes / after.size_bytes,
        "macs_ratio": before.macs / after.macs,
        "nonzero_ratio": before.nonzero_parameters / after.nonzero_parameters,
        "speedup": latency.speedup,
        "latency_ms": latency.compressed.median,
        "original_latency_ms": latency.original.median,
        "seconds": sum(step.seconds for step in report.step_reports),
    }

"""Every input format, with some steps, in every output format: error, size and latency.

``python -m benchmarks.formats [--only keras] [--network vit] [--steps zeros] [--deliver litert]``
trains small networks on scikit-learn's digits, writes each as the files that its framework writes,
and has the engine convert, compress and deliver them. Each artifact is run on its own runtime, by
turns with onnxruntime. Formats that cannot be made here are left out.

Jobs that were never measured come first, then those of the oldest day: ``--minutes`` bounds how
long jobs are begun, and the next run begins with what this one does not reach. Two jobs run at a
time (``--processes``), with a thread each. Where all formats are delivered, the figures of each
finished job take the place of its last ones in ``benchmarks/results/formats.json``, and the tables
in ``docs/formats.md`` are made of that file.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from app.domain.directory import (
    ARTIFACTS,
    DATASET,
    INPUTS,
    ORDER,
    OUTPUTS,
    UPLOAD,
    Result,
    delivery_directory,
)
from app.domain.targets import OutputFormat, ToolName
from app.settings import Settings
from benchmarks import _format_page
from benchmarks._digits_networks import NETWORKS, digits, feeds
from benchmarks._format_files import KINDS, File
from workers.compression import delivery
from workers.compression.__main__ import main as run_engine
from workers.compression.graph.runtime import open_session
from workers.runs.tools import lay_out_files
from workers.tools import environments

RESULTS = Path(__file__).parent / "results" / "formats.json"
STEPS: dict[str, list[dict[str, Any]]] = {
    "float": [],
    "zeros": [{"method": "prune", "granularity": "unstructured", "sparsity": 0.5}],
    "static int8": [{"method": "quantize", "mode": "static", "force": True}],
    "channels": [{"method": "prune", "ratio": 0.4, "recover": {"epochs": 2}}],
}
CHOICES = "only", "network", "steps", "deliver"
FORMATS: tuple[OutputFormat, ...] = (
    "onnx", "ort", "openvino", "pt2", "coreml", "web", "litert", "litert_micro", "executorch",
    "source",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A file of a network, some steps, and the formats to deliver."""

    kind: str
    network: str
    steps: str
    formats: tuple[OutputFormat, ...]

    @property
    def name(self) -> tuple[str, str, str]:
        """Its place in the results."""
        return self.kind, self.network, self.steps

    def figures(self, until: float) -> list[dict[str, Any]]:
        """Return a row of figures for each artifact.

        None are returned of a job that has not begun until then, on the clock ``time.time``.
        """
        if time.time() > until:
            return []
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as scratch:
            return self._run(Path(scratch))

    def _run(self, scratch: Path) -> list[dict[str, Any]]:
        kind = KINDS[self.kind]
        file = kind.write(self.network, scratch / "upload.file")
        formats = [name for name in self.formats if kind.goes_back or name != "source"]
        directory = scratch / "job"
        label: dict[str, Any] = {
            "in": self.kind,
            "network": self.network,
            "steps": self.steps,
            "day": f"{datetime.now(UTC):%Y-%m-%d}",
        }
        inspected = read(file, self.network, directory)
        if inspected.model is None:
            return list(figures(label, inspected, directory))
        conversion = inspected.model.conversion
        label["conversion"] = conversion.max_error if conversion else 0.0
        result = compressed(file, STEPS[self.steps], formats, directory)
        if self.steps == "static int8" and formats[0] == "onnx":
            label["step"] = step_of(directory)
        return list(figures(label, result, directory))


def jobs(chosen: argparse.Namespace) -> Iterator[Job]:
    """Yield the jobs that the command line asks for."""
    formats = (chosen.deliver,) if chosen.deliver else FORMATS
    for kind, network, steps in product(KINDS, NETWORKS, STEPS):
        asked = {"only": kind, "network": network, "steps": steps}
        if any(getattr(chosen, name) not in {None, value} for name, value in asked.items()):
            continue
        if network in KINDS[kind].networks:
            yield Job(kind, network, steps, formats)


def read(file: File, network: str, directory: Path) -> Result:
    """Make a job's directory, and have the file inspected and converted there."""
    directory.mkdir()
    (directory / UPLOAD).write_bytes(file.content.read_bytes())
    arrays = {
        name: array.transpose(0, 2, 3, 1) if file.channels_last else array
        for name, array in feeds(network).items()
    }
    with (directory / DATASET).open("wb") as data:
        np.savez(data, allow_pickle=False, **arrays, targets=digits()[1])
    return run(source_of(file), directory)


def source_of(file: File) -> dict[str, Any]:
    """Return the order to inspect a file."""
    return {"kind": "inspect_model", "may_run_code": True, "hints": file.hints or {}}


def compressed(
    file: File, steps: list[dict[str, Any]], formats: Sequence[OutputFormat], directory: Path
) -> Result:
    """Run a job by hand, and its tools where the engine asks for them."""
    base = environments.base(None)
    tools = environments.installed(base)
    lay_out_files(Settings(), formats, directory)
    able = set(formats) - set(delivery.missing(formats, tools))
    order = {
        "kind": "compress", "steps": steps, "tools": tools, "threads": 1,
        "deliver": [name for name in formats if name in able],
        "source": source_of(file),
    }  # fmt: skip
    result = run(order, directory)
    if not result.tools:
        return result
    ends = {tool: run_tool(base, tool, directory) for tool in result.tools}
    failures = {tool: reason for tool, reason in ends.items() if reason}
    return run({**order, "tool_failures": failures}, directory)


def run(order: dict[str, Any], directory: Path) -> Result:
    """Have the engine carry out an order, and return its result."""
    (directory / ORDER).write_text(json.dumps(order))
    run_engine(directory)
    return Result.model_validate_json((directory / "result.json").read_bytes())


def run_tool(base: Path, tool: ToolName, directory: Path) -> str | None:
    """Run a tool in its own Python, without a sandbox, as the files are ours.

    Returns:
        Why it came to no end; None if it did.
    """
    code = f"import sys; from pathlib import Path; import workers.tools.{tool} as tool\n"
    code += "tool.main(Path(sys.argv[1]))"
    ended = subprocess.run(
        [environments.python_of(base, tool), "-c", code, directory],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    return f"{tool} failed: {ended.stderr[-300:]}" if ended.returncode else None


def step_of(directory: Path) -> float:
    """Return a step of the int8 grid that spans the outputs of a job's ONNX file, and 0."""
    session = ort.InferenceSession(directory / ARTIFACTS / "model.onnx")
    with np.load(directory / DATASET) as arrays:
        rows = {value.name: arrays[value.name] for value in session.get_inputs()}
    [outputs] = session.run(None, rows)
    return float(np.ptp(np.append(outputs, 0))) / 255


def within(directory: Path, name: OutputFormat, step: float | None) -> list[int] | None:
    """Return how many of the runs of a tool are within a step of the ONNX file's, and of how many.

    None where there is no grid, or no tool has run the format.
    """
    own = delivery_directory(directory, name)
    if step is None or not (own / OUTPUTS).is_dir():
        return None
    session = open_session(directory / ARTIFACTS / "model.onnx", threads=1)
    names = [value.name for value in session.get_inputs()]
    inputs = [np.load(own / INPUTS / f"{index}.npy") for index in range(len(names))]
    outputs = np.load(own / OUTPUTS / "0.npy")
    near = [
        bool(np.abs(session.run(None, dict(zip(names, run, strict=True)))[0] - found).max() <= step)
        for *run, found in zip(*inputs, outputs, strict=True)
    ]
    return [sum(near), len(near)]


def figures(label: dict[str, Any], result: Result, directory: Path) -> Iterator[dict[str, Any]]:
    """Yield what a job delivered, and what it did not."""
    if result.problem is not None:
        yield {**label, "out": "–", "reason": result.problem.detail}
    for artifact in result.artifacts:
        yield {
            **label,
            "out": artifact.format,
            "error": artifact.max_error,
            "bytes": (directory / ARTIFACTS / artifact.path).stat().st_size,
            "ms": artifact.latency_ms,
            "accuracy": artifact.quality.value if artifact.quality else None,
            "reason": artifact.reason,
            "within": within(directory, artifact.format, label["step"])
            if "step" in label
            else None,
        }


def name_of(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return the name of the job that a row is of."""
    return row["in"], row["network"], row["steps"]


def last_results() -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Return the rows of the jobs that were measured, now or before, by their names."""
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []:
        rows.setdefault(name_of(row), []).append(row)
    return rows


def keep(rows: list[dict[str, Any]]) -> None:
    """Put the rows of a job that has ended in the place of its last ones, there and on the page."""
    measured = {**last_results(), name_of(rows[0]): rows}
    wanted = [job.name for job in jobs(argparse.Namespace(**dict.fromkeys(CHOICES)))]
    kept = [row for name in wanted for row in measured.get(name, [])]
    unfinished = RESULTS.with_suffix(".part")
    unfinished.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    unfinished.rename(RESULTS)
    _format_page.write(kept, FORMATS, len(wanted))


def cell(value: object) -> str:
    """Return a figure for the table; a dash where it was not measured."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:400]


def main() -> None:
    """Print the figures; those of jobs with all formats are also kept, and their tables made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(KINDS))
    parser.add_argument("--network", choices=list(NETWORKS))
    parser.add_argument("--steps", choices=list(STEPS))
    parser.add_argument("--deliver", choices=FORMATS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=24 * 60)
    chosen = parser.parse_args()
    last = {name: rows[0]["day"] for name, rows in last_results().items()}
    oldest_first = sorted(jobs(chosen), key=lambda job: last.get(job.name, ""))
    columns = ["in", "network", "steps", "out", "error", "bytes", "ms", "accuracy", "reason"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    begin = partial(Job.figures, until=time.time() + 60 * chosen.minutes)
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as pool:
        for ended in as_completed(pool.submit(begin, job) for job in oldest_first):
            rows = ended.result()
            for row in rows:
                print(f"| {' | '.join(cell(row.get(name)) for name in columns)} |", flush=True)
            if rows and not chosen.deliver:
                keep(rows)


if __name__ == "__main__":
    main()

"""How long an upload is inspected, and how much memory that takes, by its nodes and by its bytes.

Graphs of four kinds in two lengths, with ``--long`` in three: time has to grow with the length
alone. Beside them three real models, and weights of 256 MiB, in one file and in a bundle. Each is
inspected in a process of its own, as users get it.

Times are processor time, which other work on the machine changes less than it changes the wall's.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import onnx

from app.domain.directory import ORDER, RESULT, UPLOAD, InspectModel, Result
from benchmarks import _minilm, _ocr
from benchmarks._graphs import KINDS, mlp
from benchmarks._report import Bar, conclude

SHORT, LONG, LONGEST = 5_000, 20_000, 499_800
"""Nodes, about: a graph ends with a whole block. The longest stay below the 500,000 that an upload
may have; they take some minutes and up to 8 GiB."""

CONSTANT = 1.0
"""Seconds that an inspection may take whatever it is of; Python and its imports come on top."""

WIDTH, LAYERS = 2_048, 16
"""Of the weights: 256 MiB."""

_PROGRAM = """
import sys
from pathlib import Path
from workers.compression.__main__ import main
main(Path(sys.argv[1]))
print(Path("/proc/self/status").read_text())
"""
"""An engine that says how much memory it took. (What ``wait4`` says of a process includes what its
parent had when it was started.)"""


@dataclass(frozen=True)
class Inspection:
    """What one upload took."""

    name: str
    nodes: int
    file_bytes: int
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int

    def milliseconds_a_node(self, empty: "Inspection") -> float:
        """Return the time beyond the constant, and beyond starting, for each node."""
        seconds = self.cpu_seconds - empty.cpu_seconds - CONSTANT
        return 1_000 * max(seconds, 0.0) / self.nodes

    def files(self, empty: "Inspection") -> float:
        """Return the peak of memory beyond that of starting, as a multiple of the file."""
        return (self.peak_bytes - empty.peak_bytes) / self.file_bytes


def inspect(upload: Path) -> Inspection:
    """Inspect an upload.

    Raises:
        RuntimeError: it was refused.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch)
        (job / UPLOAD).symlink_to(upload)
        (job / ORDER).write_text(InspectModel().model_dump_json())
        began = os.times().elapsed
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program = [sys.executable, "-c", _PROGRAM, str(job)]
        status = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = Result.model_validate_json((job / RESULT).read_bytes())
        if result.model is None:
            raise RuntimeError(f"{upload.name} is refused: {result.problem}")
        found = Inspection(
            name=upload.stem,
            nodes=sum(result.model.operators.values()),
            file_bytes=upload.stat().st_size,
            cpu_seconds=(after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
            wall_seconds=os.times().elapsed - began,
            peak_bytes=int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) << 10,
        )
    print(
        f"{found.name:20} {found.nodes:8} nodes {found.file_bytes / 1e6:8.1f} MB"
        f" {found.cpu_seconds:8.1f} s {found.wall_seconds:8.1f} s on the clock"
        f" {found.peak_bytes / 1e6:8.0f} MB",
        flush=True,
    )
    return found


@contextmanager
def written(kind: str, count: int) -> Iterator[Path]:
    """Write a graph of a kind for a while."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{kind}-{count}.onnx"
        KINDS[kind](count, path)
        yield path


def of_lengths(lengths: tuple[int, ...]) -> dict[str, list[Inspection]]:
    """Inspect each kind in each length."""
    found: dict[str, list[Inspection]] = {kind: [] for kind in KINDS}
    for count in lengths:
        for kind in KINDS:
            with written(kind, count) as path:
                found[kind].append(inspect(path))
    return found


def of_weights() -> list[Inspection]:
    """Inspect large weights in one file, and in a bundle with external data."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "weights.onnx"
        mlp(3 * LAYERS, whole, WIDTH)
        found = [inspect(whole)]
        apart, bundle = Path(scratch) / "model.onnx", Path(scratch) / "bundle.zip"
        proto = onnx.load(whole)
        onnx.save(proto, apart, save_as_external_data=True, location="model.onnx.data")
        del proto
        with zipfile.ZipFile(bundle, "w") as packed:
            for file in (apart, apart.with_name("model.onnx.data")):
                packed.write(file, file.name)
        return [*found, inspect(bundle)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help=f"graphs of {LONGEST:,} nodes too")
    options, _ = parser.parse_known_args()
    with written("chain", 5) as path:
        empty = inspect(path)
    lengths = (SHORT, LONG, *([LONGEST] if options.long else []))
    kinds = of_lengths(lengths)
    real = [inspect(path) for path in (_minilm.model(), _ocr.model(), _ocr.detector())]
    weights = of_weights()
    bars = [
        Bar(f"{each.name}, a node", "ms", each.milliseconds_a_node(empty), 1, "under")
        for each in (*(each for found in kinds.values() for each in found), *real)
    ]
    bars += [
        Bar(
            f"{kind}: {longer.nodes} beside {shorter.nodes} nodes, time a node",
            "×",
            _a_node(longer, empty) / _a_node(shorter, empty),
            2,
            "under",
        )
        for kind, found in kinds.items()
        for shorter, longer in pairwise(found)
    ]
    bars += [
        Bar(f"{each.name}, peak memory", "× the file", each.files(empty), 3, "under")
        for each in weights
    ]
    every = [empty, *(each for found in kinds.values() for each in found), *real, *weights]
    conclude("inspection", bars, inspections=[asdict(each) for each in every])


def _a_node(found: Inspection, empty: Inspection) -> float:
    return (found.cpu_seconds - empty.cpu_seconds) / found.nodes


if __name__ == "__main__":
    main()

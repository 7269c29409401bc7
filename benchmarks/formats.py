"""Every input format, with some steps, in every output format: error, size and latency.

``python -m benchmarks.formats [--only keras] [--network vit] [--steps zeros] [--deliver litert]``
trains small networks on scikit-learn's digits, writes each as the files that its framework writes,
and has the engine convert, compress and deliver them. Each artifact is run on its own runtime, by
turns with onnxruntime. Formats that cannot be made here are left out. A run of everything writes
its figures into ``benchmarks/results/formats.json`` and its table into ``docs/formats.md``.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch
from torch import nn

from app.domain.directory import DATASET, ORDER, UPLOAD, Result
from app.domain.targets import OutputFormat, ToolName
from benchmarks._digits_networks import NETWORKS, digits, example, feeds, trained
from workers.compression import delivery
from workers.compression.__main__ import main as run_engine
from workers.tools import environments

RESULTS = Path(__file__).parent / "results" / "formats.json"
PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
MARKS = "<!-- by make formats -->", "<!-- end -->"
"""The table stands between these."""
STEPS: dict[str, list[dict[str, Any]]] = {
    "float": [],
    "zeros": [{"method": "prune", "granularity": "unstructured", "sparsity": 0.5}],
    "static int8": [{"method": "quantize", "mode": "static", "force": True}],
    "channels": [{"method": "prune", "ratio": 0.4, "recover": {"epochs": 2}}],
}
FORMATS: list[OutputFormat] = [
    "onnx", "ort", "openvino", "pt2", "coreml", "litert", "litert_micro", "executorch", "source",
]  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file to upload."""

    content: Path
    inputs: list[dict[str, Any]] | None = None
    channels_last: bool = False
    is_onnx: bool = False


def stated(network: str) -> list[dict[str, Any]]:
    """Return what a file does not tell of the inputs."""
    return [
        {"name": name, "shape": ["batch", *array.shape[1:]]}
        for name, array in feeds(network).items()
    ]


def torchscript(module: nn.Module, network: str, path: Path) -> File:
    """Write a TorchScript file."""
    trace: Any = torch.jit.trace
    torch.jit.save(trace(module, example(network)), path)
    return File(path, stated(network))


def torch_export(module: nn.Module, network: str, path: Path) -> File:
    """Write a program of torch.export with a dynamic batch."""
    arrays = example(network)
    dynamic = tuple({0: torch.export.Dim("batch")} for _ in arrays)
    program = torch.export.export(module, arrays, dynamic_shapes=dynamic)
    with path.open("wb") as file:
        torch.export.save(program, file)
    return File(path, stated(network))


def onnx(module: nn.Module, network: str, path: Path) -> File:
    """Write an ONNX file."""
    arrays = example(network)
    made: Any = torch.onnx.export(
        module, arrays, dynamo=True, input_names=list(feeds(network)), verbose=False,
        dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in arrays),
    )  # fmt: skip
    made.save(path, external_data=False)
    return File(path, is_onnx=True)


def keras(_module: nn.Module, _network: str, path: Path) -> File:
    """Train and write a Keras file: the layers of ``cnn``."""
    import keras
    from keras import layers

    images, classes = digits()
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", use_bias=False), layers.BatchNormalization(),
            layers.ReLU(), layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(), layers.Dense(10),
        ]
    )  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images.transpose(0, 2, 3, 1), classes, epochs=4, verbose=0)
    whole = path.with_suffix(".keras")
    model.save(whole)
    return File(whole, channels_last=True)


WRITERS: dict[str, Callable[[nn.Module, str, Path], File]] = {
    "onnx": onnx,
    "torchscript": torchscript,
    "torch_export": torch_export,
    "keras": keras,
}


def compressed(
    file: File,
    network: str,
    steps: list[dict[str, Any]],
    formats: Sequence[OutputFormat],
    directory: Path,
) -> Result:
    """Run a job by hand, and its tools where the engine asks for them."""
    directory.mkdir()
    (directory / UPLOAD).write_bytes(file.content.read_bytes())
    arrays = {
        name: array.transpose(0, 2, 3, 1) if file.channels_last else array
        for name, array in feeds(network).items()
    }
    with (directory / DATASET).open("wb") as data:
        np.savez(data, allow_pickle=False, **arrays, targets=digits()[1])
    base = environments.base(None)
    tools = environments.installed(base)
    able = set(formats) - set(delivery.missing(formats, tools))
    if file.is_onnx:
        able.discard("source")
    order = {
        "kind": "compress", "steps": steps, "tools": tools, "threads": 1,
        "deliver": [name for name in formats if name in able],
        "source": {"may_run_code": True, "hints": {"inputs": file.inputs}},
    }  # fmt: skip
    (directory / ORDER).write_text(json.dumps(order))
    run_engine(directory)
    result = read(directory)
    for tool in result.tools:
        run_tool(base, tool, directory)
    if result.tools:
        run_engine(directory)
    return read(directory)


def read(directory: Path) -> Result:
    """Return a job's result."""
    return Result.model_validate_json((directory / "result.json").read_bytes())


def run_tool(base: Path, tool: ToolName, directory: Path) -> None:
    """Run a tool in its own Python, without a sandbox: the files are ours."""
    code = f"import sys; from pathlib import Path; import workers.tools.{tool} as tool\n"
    code += "tool.main(Path(sys.argv[1]))"
    subprocess.run(
        [environments.python_of(base, tool), "-c", code, directory],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


def rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each artifact, and the reason where a job has none."""
    formats = [chosen.deliver] if chosen.deliver else FORMATS
    with tempfile.TemporaryDirectory() as scratch:
        for kind, net in product(WRITERS, NETWORKS):
            if chosen.only not in {None, kind} or chosen.network not in {None, net}:
                continue
            if kind == "keras" and net != "cnn":
                continue  # its layers are those of the CNN
            place = Path(scratch) / f"{kind}-{net}".replace(" ", "-")
            file = WRITERS[kind](trained(net), net, place.with_suffix(".file"))
            for name in [chosen.steps] if chosen.steps else STEPS:
                job = place.with_name(f"{place.name}-{name}".replace(" ", "-"))
                label = {"in": kind, "network": net, "steps": name}
                yield from figures(label, compressed(file, net, STEPS[name], formats, job), job)


def figures(label: dict[str, str], result: Result, directory: Path) -> Iterator[dict[str, Any]]:
    """Yield what a job delivered, and what it did not."""
    if result.problem is not None:
        yield {**label, "out": "–", "reason": result.problem.detail}
    for artifact in result.artifacts:
        yield {
            **label,
            "out": artifact.format,
            "error": artifact.max_error,
            "bytes": (directory / "artifacts" / artifact.path).stat().st_size,
            "ms": artifact.latency_ms,
            "accuracy": artifact.quality.value if artifact.quality else None,
            "reason": artifact.reason,
        }


def cell(value: object) -> str:
    """Return a figure for the table; a dash where it was not measured."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:120]


def write_page(lines: list[str]) -> None:
    """Put the table into the documentation, in place of the last one."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Print the table; a run of everything also writes it and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(WRITERS))
    parser.add_argument("--network", choices=list(NETWORKS))
    parser.add_argument("--steps", choices=list(STEPS))
    parser.add_argument("--deliver", choices=FORMATS)
    chosen = parser.parse_args()
    columns = ["in", "network", "steps", "out", "error", "bytes", "ms", "accuracy", "reason"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    measured = []
    for row in rows(chosen):
        measured.append(row)
        lines.append(f"| {' | '.join(cell(row.get(name)) for name in columns)} |")
        print(lines[-1], flush=True)
    if not any(vars(chosen).values()):
        RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        write_page(lines)


if __name__ == "__main__":
    main()

"""Every input format, with some steps, in every output format: error, size and latency.

``python -m benchmarks.formats [--only keras] [--out table.md]`` trains small networks on
scikit-learn's digits, writes each as the files that its framework writes, and has the engine
convert, compress and deliver them. Each artifact is run on its own runtime. Formats that cannot be
made here are left out.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from app.domain.directory import DATASET, ORDER, UPLOAD, Result
from app.domain.targets import OutputFormat, ToolName
from workers.compression import delivery
from workers.compression.__main__ import main as run_engine
from workers.tools import environments

STEPS: dict[str, list[dict[str, Any]]] = {
    "zeros": [{"method": "prune", "granularity": "unstructured", "sparsity": 0.5}],
    "static int8": [{"method": "quantize", "mode": "static", "force": True}],
    "channels": [{"method": "prune", "ratio": 0.4, "recover": {"epochs": 2}}],
}
FORMATS: list[OutputFormat] = [
    "onnx", "ort", "openvino", "pt2", "coreml", "litert", "litert_micro", "source",
]  # fmt: skip
IMAGE = [{"name": "image", "shape": ["batch", 1, 8, 8]}]


@dataclass(frozen=True)
class File:
    """A file to upload."""

    content: Path
    inputs: list[dict[str, Any]] | None = None
    channels_last: bool = False
    is_onnx: bool = False


def cnn() -> nn.Module:
    """Return a network of ordinary convolutions with normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def depthwise() -> nn.Module:
    """Return a network of depthwise convolutions, as MobileNet has them."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU6(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.ReLU6(),
        nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def torchscript(network: nn.Module, path: Path) -> File:
    """Write a TorchScript file."""
    trace: Any = torch.jit.trace
    torch.jit.save(trace(network, torch.zeros(2, 1, 8, 8)), path)
    return File(path, IMAGE)


def torch_export(network: nn.Module, path: Path) -> File:
    """Write a program of torch.export with a dynamic batch."""
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=batch)
    with path.open("wb") as file:
        torch.export.save(program, file)
    return File(path, IMAGE)


def onnx(network: nn.Module, path: Path) -> File:
    """Write an ONNX file."""
    made: Any = torch.onnx.export(
        network, (torch.zeros(2, 1, 8, 8),), dynamo=True, input_names=["image"], verbose=False,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )  # fmt: skip
    made.save(path, external_data=False)
    return File(path, is_onnx=True)


def keras(_: nn.Module, path: Path) -> File:
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


WRITERS: dict[str, Callable[[nn.Module, Path], File]] = {
    "onnx": onnx,
    "torchscript": torchscript,
    "torch_export": torch_export,
    "keras": keras,
}


def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the images ``[n, 1, 8, 8]`` in float32, and their classes."""
    loaded: Any = load_digits()
    return (loaded.images[:, None] / 16).astype(np.float32), loaded.target.astype(np.int64)


def trained(network: nn.Module) -> nn.Module:
    """Train a network for some epochs, the same each time."""
    torch.manual_seed(0)
    images, classes = (torch.from_numpy(array) for array in digits())
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(6):
        for rows in torch.tensor_split(torch.randperm(len(images)), 14):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images[rows]), classes[rows])
            torch.autograd.backward(loss)
            optimizer.step()
    return network.eval()


def compressed(file: File, steps: list[dict[str, Any]], directory: Path) -> Result:
    """Run a job by hand, and its tools where the engine asks for them."""
    directory.mkdir()
    (directory / UPLOAD).write_bytes(file.content.read_bytes())
    images, classes = digits()
    rows = images.transpose(0, 2, 3, 1) if file.channels_last else images
    with (directory / DATASET).open("wb") as data:
        np.savez(data, image=rows, targets=classes)
    base = environments.base(None)
    tools = environments.installed(base)
    able = set(FORMATS) - set(delivery.missing(FORMATS, tools))
    if file.is_onnx:
        able.discard("source")
    order = {
        "kind": "compress", "steps": steps, "tools": tools, "threads": 1,
        "deliver": [name for name in FORMATS if name in able],
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


def rows(only: str | None) -> Iterator[list[str]]:
    """Yield the lines of the table: a line an artifact."""
    with tempfile.TemporaryDirectory() as scratch:
        for kind, write in WRITERS.items():
            for make in (cnn, depthwise):
                if only not in (None, kind) or (kind == "keras" and make is depthwise):
                    continue
                file = write(trained(make()), Path(scratch) / f"{make.__name__}-{kind}")
                for name, steps in STEPS.items():
                    place = Path(scratch) / f"{kind}-{make.__name__}-{name}".replace(" ", "-")
                    result = compressed(file, steps, place)
                    label = [kind, make.__name__, name]
                    if result.report is None:
                        assert result.problem is not None
                        yield [*label, "–", result.problem.detail[:120], "", "", ""]
                    for artifact in result.artifacts:
                        size = (place / "artifacts" / artifact.path).stat().st_size
                        score = artifact.quality.value if artifact.quality else None
                        yield [
                            *label, artifact.format, number(artifact.max_error), str(size),
                            number(artifact.latency_ms), number(score),
                        ]  # fmt: skip


def number(value: float | None) -> str:
    """Return a figure for the table; a dash where it was not measured."""
    return "–" if value is None else f"{value:.3g}"


def main() -> None:
    """Print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(WRITERS))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    head = ["in", "network", "steps", "out", "error", "bytes", "ms", "accuracy"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows(chosen.only):
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

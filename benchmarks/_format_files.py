"""Small networks as the files that their frameworks write."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import torch
from torch import nn

from benchmarks._digits_networks import digits, example, feeds


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

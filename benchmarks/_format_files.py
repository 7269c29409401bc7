"""Small networks as the files that their frameworks write."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import _format_keras
from benchmarks._digits_networks import NETWORKS, example, feeds, fitted, trained


@dataclass(frozen=True)
class File:
    """A file to upload, and what is said with it."""

    content: Path
    hints: dict[str, Any] | None = None
    channels_last: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    write: Callable[[str, Path], File]
    """Trains a network, and writes it at a path or beside it."""
    networks: tuple[str, ...] = tuple(NETWORKS)
    goes_back: bool = True
    """Whether the framework can have the weights back (``source``)."""


def stated(network: str) -> dict[str, Any]:
    """Return what a file does not tell of the inputs."""
    return {
        "inputs": [
            {"name": name, "shape": ["batch", *array.shape[1:]]}
            for name, array in feeds(network).items()
        ]
    }


def torchscript(network: str, path: Path) -> File:
    """Write a TorchScript file."""
    trace: Any = torch.jit.trace
    torch.jit.save(trace(trained(network), example(network)), path)
    return File(path, stated(network))


def torch_export(network: str, path: Path) -> File:
    """Write a program of torch.export with a dynamic batch."""
    arrays = example(network)
    dynamic = tuple({0: torch.export.Dim("batch")} for _ in arrays)
    program = torch.export.export(trained(network), arrays, dynamic_shapes=dynamic)
    with path.open("wb") as file:
        torch.export.save(program, file)
    return File(path, stated(network))


def onnx(network: str, path: Path) -> File:
    """Write an ONNX file."""
    arrays = example(network)
    made: Any = torch.onnx.export(
        trained(network), arrays, dynamo=True, input_names=list(feeds(network)), verbose=False,
        dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in arrays),
    )  # fmt: skip
    made.save(path, external_data=False)
    return File(path)


def keras(network: str, path: Path) -> File:
    """Write a ``.keras`` file."""
    return File(_format_keras.written(network, path.with_suffix(".keras")), channels_last=True)


def keras_hdf5(network: str, path: Path) -> File:
    """Write an HDF5 file of Keras 3."""
    return File(_format_keras.written(network, path.with_suffix(".h5")), channels_last=True)


_TIMM = {"cnn": "test_resnet", "depthwise": "test_efficientnet"}
"""The smallest networks of timm of each kind."""


def weights(network: str, path: Path) -> File:
    """Write the weights of a network of timm."""
    from safetensors.torch import save_file

    from workers.compression.intake.sources.timm_networks import define_torchvision_operators

    define_torchvision_operators()
    import timm

    torch.manual_seed(0)
    module = timm.create_model(_TIMM[network], in_chans=1, num_classes=10, exportable=True)
    save_file(fitted(module, network).state_dict(), path)
    return File(path, {**stated(network), "architecture": f"timm/{_TIMM[network]}"})


class _Logits(nn.Module):
    """The scores alone of a network of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of ten classes."""
        scores: Tensor = self.model(image).logits
        return scores


def huggingface(network: str, path: Path) -> File:
    """Write the directory of a vision transformer as a zip."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=128,
        image_size=8, patch_size=2, num_channels=1, num_labels=10,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    fitted(_Logits(model), network)
    directory = path.with_suffix("")
    model.save_pretrained(directory)
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for file in directory.iterdir():
            archive.write(file, file.name)
    return File(path.with_suffix(".zip"), stated(network))


KINDS: dict[str, Kind] = {
    "torchscript": Kind(torchscript),
    "keras": Kind(keras),
    "torch_export": Kind(torch_export),
    "onnx": Kind(onnx, goes_back=False),
    "keras_hdf5": Kind(keras_hdf5, ("cnn",)),
    "weights": Kind(weights, tuple(_TIMM)),
    "huggingface": Kind(huggingface, ("vit",)),
}

"""A network in your own Python gets the sizes and the weights of a result whose channels were cut.

The artifact ``source`` of a job says which channels are left (``kept.json``) and holds the weights
(``weights.safetensors``).
"""

import json
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

from planish._packages import package

_COUNTS: dict[str, tuple[int, str]] = {
    "out_channels": (0, "weight"),
    "out_features": (0, "weight"),
    "in_features": (1, "weight"),
    "num_features": (0, "running_mean"),
    "num_embeddings": (0, "weight"),
    "embedding_dim": (1, "weight"),
    "num_channels": (0, "weight"),
}
"""Attributes of torch's layers that count channels: the axis of which tensor they count."""


def narrow(module: Any, source: Path | str) -> Any:
    """Give a ``torch.nn.Module`` the sizes and weights of a result, in place.

    Args:
        module: the network that was uploaded, as its own code builds it.
        source: the artifact ``source`` of a job: the zip, or the directory that it was unpacked to.

    Returns:
        The module. Its ``forward`` must not write out the number of channels that were cut: a
        ``reshape`` with ``-1`` follows by itself, one with the old number does not.

    Raises:
        MissingPackage: torch or safetensors is not installed.
        ValueError: the weights are not those of this module.
    """
    torch = package("torch", "safetensors")
    weights = import_module("safetensors.torch").load(_read(source, "weights.safetensors"))
    kept = json.loads(_read(source, "kept.json"))
    wide = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if strange := sorted(set(weights) ^ set(wide)):
        raise ValueError(
            f"The weights are those of another network: '{strange[0]}' is in one of them alone."
            " Build the network that was uploaded."
        )
    _require_same(wide, kept, weights)
    for name, tensor in weights.items():
        layer, _, attribute = name.rpartition(".")
        _put(torch, module.get_submodule(layer), attribute, tensor)
    for name, layer in module.named_modules():
        _count(layer)
        if name in kept["layers"] and getattr(layer, "groups", 1) > 1:
            _group(layer, **kept["layers"][name])
    return module


def _read(source: Path | str, name: str) -> bytes:
    path = Path(source)
    if path.is_dir():
        return (path / name).read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _require_same(wide: dict[str, tuple[int, ...]], kept: Any, weights: Any) -> None:
    cut = {name: tuple(axes["wide_shape"]) for name, axes in kept["weights"].items()}
    for name, tensor in weights.items():
        if wide[name] not in {cut.get(name), tuple(tensor.shape)}:
            raise ValueError(
                f"The weight '{name}' has the shape {list(wide[name])}; that of the upload was"
                f" {list(cut.get(name, tensor.shape))}. Build the network that was uploaded."
            )


def _put(torch: Any, layer: Any, attribute: str, tensor: Any) -> None:
    old = getattr(layer, attribute)
    tensor = tensor.to(old.device)
    if isinstance(old, torch.nn.Parameter):
        tensor = torch.nn.Parameter(tensor, requires_grad=old.requires_grad)
    setattr(layer, attribute, tensor)


def _count(layer: Any) -> None:
    """Let a layer of torch count the channels that it has now."""
    for name, (axis, weight) in _COUNTS.items():
        tensor = getattr(layer, weight, None)
        if hasattr(layer, name) and tensor is not None and tensor.dim() > axis:
            setattr(layer, name, tensor.shape[axis])
    if hasattr(layer, "normalized_shape") and layer.weight is not None:
        layer.normalized_shape = tuple(layer.weight.shape)


def _group(convolution: Any, outputs: list[int], of: int) -> None:
    """Let a convolution have as many groups as have an output left."""
    size = of // convolution.groups
    convolution.groups = len({index // size for index in outputs})

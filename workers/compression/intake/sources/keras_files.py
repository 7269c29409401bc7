"""Keras models with other weights: written as files again, and built narrower."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

_WIDTHS = {"filters": -1, "units": -1}
"""Arguments of layers that say how many outputs a kernel has."""


def weights(model: Any) -> dict[str, Tensor]:
    """Return a model's variables by their paths; who writes into them changes the model."""
    tensors: dict[str, Tensor] = {}
    for variable in model.variables:
        name, number = str(variable.path), 1
        while name in tensors:
            name, number = f"{variable.path}_{number}", number + 1
        tensors[name] = variable.value
    return tensors


def save_archive(model: Any, directory: Path) -> Path:
    """Write a model as a ``.keras`` file."""
    path = directory / "model.keras"
    model.save(path)
    return path


def save_hdf5(model: Any, upload: Path, directory: Path) -> Path:
    """Write a model's weights into a copy of the HDF5 file that it comes from.

    All else in the file stays, so that the Keras that wrote it reads it.
    """
    import h5py

    path = directory / "model.h5"
    shutil.copyfile(upload, path)
    with h5py.File(path, "r+") as file:
        groups = weight_groups(file)
        stored = [name for name in layer_names(groups) if weight_names(groups[name])]
        layers = [layer for layer in model.layers if _variables(layer)]
        for name, layer in zip(stored, layers, strict=True):
            for place, variable in zip(weight_names(groups[name]), _variables(layer), strict=True):
                groups[name][place][...] = variable.numpy()
    return path


def _variables(layer: Any) -> list[Any]:
    """Return a layer's variables in the order in which HDF5 files have them."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def layers_of(model: Any) -> list[Any]:
    """Return a model and all layers in it, those of inner models and wrappers too."""
    return list(model._flatten_layers())  # noqa: SLF001 (it has no public name)


def weight_groups(file: Any) -> Any:
    """Return where an HDF5 file has the groups of weights; one of weights alone has them itself."""
    return file.get("model_weights", file)


def layer_names(groups: Any) -> list[str]:
    """Return the names of the layers that an HDF5 file has groups of, in the model's order."""
    return list(_texts(groups.attrs, "layer_names"))


def weight_names(group: Any) -> list[str]:
    """Return the names of a layer's arrays in HDF5, in the layer's order."""
    return list(_texts(group.attrs, "weight_names"))


def _texts(attributes: Any, name: str) -> Iterator[str]:
    """Yield the names in an attribute; long lists are stored in numbered pieces."""
    pieces = [name] if name in attributes else []
    while f"{name}{len(pieces)}" in attributes:
        pieces.append(f"{name}{len(pieces)}")
    for piece in pieces:
        for text in attributes[piece]:
            yield text.decode() if isinstance(text, bytes) else str(text)


def narrowed(model: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Build a model of the same layers whose weights have other sizes.

    Args:
        model: with the layers as they were.
        arrays: all weights, by the names of ``weights``.

    Raises:
        Exception: Keras's own, where a size is not one that the layers' widths say.
    """
    import keras

    names = dict(zip(map(id, model.variables), weights(model), strict=True))

    def widths(layer: Any) -> dict[str, Any]:
        config = layer.get_config()
        kernel = getattr(layer, "kernel", None)
        kernel = getattr(layer, "pointwise_kernel", kernel)
        array = arrays.get(names.get(id(kernel), ""))
        for argument, axis in _WIDTHS.items():
            if array is not None and argument in config:
                transposed = "Transpose" in type(layer).__name__
                config[argument] = int(array.shape[-2 if transposed else axis])
        return dict(config)

    smaller = keras.models.clone_model(
        model, clone_function=lambda layer: type(layer).from_config(widths(layer))
    )
    for variable, array in zip(smaller.variables, arrays.values(), strict=True):
        variable.assign(array)
    return smaller

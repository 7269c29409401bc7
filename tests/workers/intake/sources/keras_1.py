"""Files of Keras 1, in its names and layouts, written by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TRAINING = {
    "init": "glorot_uniform",
    "W_regularizer": None,
    "b_constraint": None,
    "trainable": True,
}
DRAW = np.random.default_rng(0)


def random(*shape: int) -> Array:
    return DRAW.standard_normal(shape).astype(np.float32) / 4


def old_file(
    path: Path,
    config: object,
    weights: Mapping[str, list[Array] | dict[str, Array]],
    version: str | None = "1.2.2",
) -> Path:
    """Write a file as ``model.save`` of Keras 1 does; the names of a layer's arrays may be left."""
    with h5py.File(path, "w") as file:
        if version is not None:
            file.attrs["keras_version"] = version.encode()
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            layer = group.create_group(name)
            named = (
                {f"{name}_param_{index}": array for index, array in enumerate(arrays)}
                if isinstance(arrays, list)
                else arrays
            )
            layer.attrs["weight_names"] = [each.encode() for each in named]
            for each, array in named.items():
                layer[each] = array
    return path


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **config}}

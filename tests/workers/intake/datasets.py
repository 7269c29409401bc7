"""Datasets that the intake's tests upload, and the inputs that they are for."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.domain.models import TensorSpec


def spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=list(shape))


def npz(path: Path, **arrays: NDArray[Any]) -> Path:
    """Write arrays under any name of a file; those of objects are pickled, which intake refuses."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, **arrays)
    return path


def images(path: Path, classes: dict[str, list[tuple[int, int]]], prefix: str = "") -> Path:
    """Write a zip of class folders; each image is one colour, given sizes are (width, height)."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, sizes) in enumerate(classes.items()):
            for index, size in enumerate(sizes):
                file = io.BytesIO()
                Image.new("RGB", size, (51 * (number + 1), 0, 255)).save(file, "PNG")
                archive.writestr(f"{prefix}{name}/{index}.png", file.getvalue())
    return path

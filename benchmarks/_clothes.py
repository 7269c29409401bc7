"""Fashion-MNIST (Xiao et al. 2017): grey clothes of ten kinds, 28 × 28 pixels."""

import gzip
import sys
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks._cache import CACHE

_FOLDERS = (CACHE / "fashion-mnist", Path("/usr/share/datasets/fashion-mnist"))
_FILES = (("images-idx3", 16), ("labels-idx1", 8))
"""The files of images and of classes, and the bytes of their headers."""


def read(part: Literal["train", "t10k"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images ``[N, 1, 28, 28]`` and their classes.

    Raises:
        SystemExit: the files are missing.
    """
    images, classes = (_array(f"{part}-{kind}-ubyte.gz", header) for kind, header in _FILES)
    return images.reshape(-1, 1, 28, 28), classes.astype(np.int64)


def framed(part: Literal["train", "t10k"]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return images in a black frame, float ``[N, 1, 32, 32]`` from 0 to 1, and their classes."""
    images, classes = read(part)
    frame = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return frame.astype(np.float32) / np.float32(255), classes


def _array(name: str, header: int) -> NDArray[np.uint8]:
    for folder in _FOLDERS:
        if (folder / name).exists():
            return np.frombuffer(
                gzip.decompress((folder / name).read_bytes()), np.uint8, offset=header
            )
    sys.exit(
        "The images are missing: install Debian's package dataset-fashion-mnist, or put its files"
        f" into {_FOLDERS[0]}."
    )

"""Reads datasets of images: a zip with one folder of images for each class."""

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from app.domain.datasets import DatasetDescription, Glimpse, ImageOptions, Picture, Targets
from app.domain.models import TensorSpec
from app.domain.problems import DatasetMismatch, InvalidDataset
from workers.compression.intake.archive import unpack
from workers.compression.intake.datasets import glimpses
from workers.compression.intake.datasets.arrays import Arrays, counts
from workers.compression.intake.limits import ArchiveLimits, DatasetLimits

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}
_ARRAY = "images"
_ENTRIES = 1_000_000
_MODES = {1: "L", 3: "RGB"}


class _ImageLayout(NamedTuple):
    """The layout of images in a model's input."""

    channels: int
    first: bool
    """Whether channels come before height and width."""
    height: int | str
    width: int | str


class _Folder:
    """An unpacked zip: its images, sorted by class folder and name, and the classes."""

    def __init__(self, root: Path) -> None:
        files = [
            path
            for path in sorted(root.rglob("*"))
            if path.is_file() and not (_JUNK & set(path.relative_to(root).parts))
        ]
        if stray := next((p for p in files if p.suffix.lower() not in _SUFFIXES), None):
            raise InvalidDataset(
                f"The archive holds '{stray.relative_to(root)}', which is neither an image (JPEG,"
                " PNG, WebP, BMP) nor an .npy array. Upload an .npz, or a zip of class folders of"
                " images."
            )
        if not files:
            raise InvalidDataset("The archive holds no images.")
        self.root, self.files = root, files
        parents = {path.parent for path in files}
        if len({parent.parent for parent in parents}) > 1:
            raise InvalidDataset(
                "Some images lie deeper than others. Put each class's images in one folder, all"
                " folders side by side."
            )
        self.classes = sorted({p.name for p in parents}) if parents != {root} else None

    def targets(self) -> NDArray[np.int64] | None:
        """Return the class of each image: the position of its folder among the sorted names."""
        if self.classes is None:
            return None
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[path.parent.name] for path in self.files], dtype=np.int64)


def describe(upload: Path, limits: DatasetLimits) -> DatasetDescription:
    """Check every image's header and count classes."""
    with tempfile.TemporaryDirectory(dir=upload.parent, prefix="images-") as scratch:
        folder = _unpack(upload, Path(scratch))
        sizes = {_size(path, folder, limits) for path in folder.files}
        samples, numbers = len(folder.files), folder.targets()
        targets = None if numbers is None else _described(numbers, folder.classes or [])
        shown = [
            Glimpse(
                array=_ARRAY,
                sample=index,
                target=folder.files[index].parent.name if targets else None,
                shown=_picture(folder.files[index], folder, limits),
            )
            for index in glimpses.positions(samples)
        ]
    height, width = next(iter(sizes)) if len(sizes) == 1 else ("height", "width")
    shape: list[int | str] = [samples, height, width, 3]
    images = TensorSpec(name=_ARRAY, dtype="uint8", shape=shape)
    return DatasetDescription(
        format="images", samples=samples, arrays=[images], targets=targets, glimpses=shown
    )


def _described(numbers: NDArray[np.int64], classes: list[str]) -> Targets:
    return Targets(
        dtype="int64",
        shape=[len(numbers)],
        classes=classes,
        counts=counts(numbers, len(classes)),
    )


def _picture(path: Path, folder: _Folder, limits: DatasetLimits) -> Picture:
    with _open(path, folder, limits) as image:
        pixels = _decoded(image, path.relative_to(folder.root), 3, image.size)
    return glimpses.picture(Image.fromarray(pixels))


def arrays(
    upload: Path,
    inputs: Sequence[TensorSpec],
    data: Path,
    options: ImageOptions,
    limits: DatasetLimits,
) -> Arrays:
    """Decode, resize and normalise all images into one array in the layout of the input."""
    tensor, scratch = inputs[0], data / "images"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    folder = _unpack(upload, scratch)
    layout = _layout(tensor)
    height, width = _resolve(layout, folder, limits)
    dtype, channels = np.dtype(tensor.dtype), layout.channels
    shape = (channels, height, width) if layout.first else (height, width, channels)
    total = len(folder.files) * prod(shape) * dtype.itemsize
    if total > limits.total:
        raise DatasetMismatch(f"The images would take {total} bytes at the input's size.")
    array = np.lib.format.open_memmap(
        data / "images.npy", mode="w+", dtype=dtype, shape=(len(folder.files), *shape)
    )
    for index, path in enumerate(folder.files):
        with _open(path, folder, limits) as image:
            pixels = _decoded(image, path.relative_to(folder.root), channels, (width, height))
        values = pixels if dtype == np.uint8 else _normalised(pixels, options)
        array[index] = values.transpose(2, 0, 1) if layout.first else values
    array.flush()
    shutil.rmtree(scratch)
    targets = folder.targets()
    return {tensor.name: array} if targets is None else {tensor.name: array, "targets": targets}


def _unpack(upload: Path, into: Path) -> _Folder:
    """Unpack into ``into``; return the folder that holds the class folders."""
    unpack(upload, into, ArchiveLimits(entries=_ENTRIES), InvalidDataset)
    root = into
    while True:
        inside = [path for path in root.iterdir() if path.name not in _JUNK]
        nested = len(inside) == 1 and inside[0].is_dir()
        if not nested or not any(path.is_dir() for path in inside[0].iterdir()):
            return _Folder(root)
        root = inside[0]


def _open(path: Path, folder: _Folder, limits: DatasetLimits) -> Image.Image:
    """Open an image of a known format whose size is within the limits; nothing is decoded."""
    name = path.relative_to(folder.root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidDataset(f"Image '{name}' has more than {limits.pixels} pixels.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise InvalidDataset(f"'{name}' is no readable JPEG, PNG, WebP or BMP image.") from None
    if image.width * image.height > limits.pixels:
        image.close()
        raise InvalidDataset(f"Image '{name}' has more than {limits.pixels} pixels.")
    return image


def _size(path: Path, folder: _Folder, limits: DatasetLimits) -> tuple[int, int]:
    """Return the height and width of an image after cheap checks of its format."""
    with _open(path, folder, limits) as image:
        size = (image.height, image.width)
        try:
            image.verify()
        except (OSError, ValueError, SyntaxError) as error:
            name = path.relative_to(folder.root)
            raise InvalidDataset(f"Image '{name}' is broken ({error}).") from None
    return size


def _layout(tensor: TensorSpec) -> _ImageLayout:
    """Return the layout from an input's shape; channels first if both layouts are possible."""
    _, second, third, last = tensor.shape
    if second in _MODES:
        return _ImageLayout(int(second), True, third, last)
    return _ImageLayout(int(last), False, second, third)


def _resolve(layout: _ImageLayout, folder: _Folder, limits: DatasetLimits) -> tuple[int, int]:
    """Return height and width; a dynamic one is taken from the images, all of one size."""
    if isinstance(layout.height, int) and isinstance(layout.width, int):
        return layout.height, layout.width
    sizes = {_size(path, folder, limits) for path in folder.files}
    if len(sizes) > 1:
        raise DatasetMismatch(
            "The model's input has a dynamic height or width and the images differ in size."
            " Resize them to one size, or upload an .npz."
        )
    height, width = sizes.pop()
    return (
        layout.height if isinstance(layout.height, int) else height,
        layout.width if isinstance(layout.width, int) else width,
    )


def _decoded(
    image: Image.Image, name: Path, channels: int, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return an image as ``[height, width, channels]``, resized to ``size`` (width, height)."""
    try:
        plain = _eight_bits(image).convert(_MODES[channels])
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidDataset(f"Image '{name}' is broken ({error}).") from None
    pixels = np.asarray(plain.resize(size, Image.Resampling.BILINEAR), dtype=np.uint8)
    return pixels.reshape(size[1], size[0], channels)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits in eight: Pillow makes white of all that is above 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))


def _normalised(pixels: NDArray[np.uint8], options: ImageOptions) -> NDArray[np.float32]:
    """Return ``(pixel / 255 - mean) / std``, mean and std for each channel or for all."""
    mean, std = (
        np.asarray(constants, dtype=np.float32) for constants in (options.mean, options.std)
    )
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std

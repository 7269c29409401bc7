"""A zip of class folders becomes an array in the layout of the input."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.domain.datasets import ImageOptions
from app.domain.problems import DatasetMismatch, InvalidDataset
from tests.workers.intake.datasets import images, spec
from workers.compression.intake.datasets import fit_dataset, inspect_dataset
from workers.compression.intake.limits import DatasetLimits


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_of_16_bits_keeps_its_shades(tmp_path: Path, channels: int) -> None:
    shades = np.array([[0, 0x4000], [0x8000, 0xFFFF]], np.uint16)
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        for name in ("cat/1.png", "dog/1.png"):
            with archive.open(name, "w") as file:
                Image.fromarray(shades).save(file, "PNG")
    data = fit_dataset(tmp_path / "upload", [spec("x", "float32", "N", channels, 2, 2)], tmp_path)
    wanted = np.array([[0, 64], [128, 255]], np.float32) / 255
    for channel in range(channels):
        np.testing.assert_allclose(data.inputs["x"][1, channel], wanted, atol=1e-6)


def test_resized_scaled_and_laid_out_as_the_input_says(tmp_path: Path) -> None:
    upload = images(tmp_path / "upload", {"dog": [(8, 6)], "cat": [(5, 5), (7, 9)]}, "set/")
    found = inspect_dataset(upload)
    assert found.samples == 3
    assert found.targets is not None
    assert found.targets.classes == ["cat", "dog"]
    first = spec("image", "float32", "N", 3, 2, 4)
    data = fit_dataset(upload, [first], tmp_path)
    assert data.inputs["image"].shape == (3, 3, 2, 4)
    np.testing.assert_array_equal(data.targets, [0, 0, 1])
    np.testing.assert_allclose(data.inputs["image"][2, :, 0, 0], [0.2, 0, 1], atol=1e-6)
    last = spec("image", "float32", "N", 2, 4, 3)
    options = ImageOptions(mean=[0.1, 0.2, 0.3], std=[0.5])
    data = fit_dataset(upload, [last], tmp_path, options)
    assert data.inputs["image"].shape == (3, 2, 4, 3)
    np.testing.assert_allclose(data.inputs["image"][2, 0, 0], [0.2, -0.4, 1.4], atol=1e-6)


def test_uint8_inputs_get_the_pixels_themselves(tmp_path: Path) -> None:
    upload = images(tmp_path / "upload", {"a": [(4, 4)]})
    data = fit_dataset(upload, [spec("image", "uint8", "N", "H", "W", 3)], tmp_path)
    assert data.inputs["image"].shape == (1, 4, 4, 3)
    assert data.inputs["image"][0, 0, 0].tolist() == [51, 0, 255]


def test_differing_sizes_need_an_input_of_a_fixed_size(tmp_path: Path) -> None:
    upload = images(tmp_path / "upload", {"a": [(4, 4), (5, 4)]})
    with pytest.raises(DatasetMismatch, match="differ in size"):
        fit_dataset(upload, [spec("image", "float32", "N", 3, "H", "W")], tmp_path)


def test_an_image_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    upload = images(tmp_path / "upload", {"a": [(64, 64)]})
    with pytest.raises(InvalidDataset, match="more than 4095 pixels"):
        inspect_dataset(upload, DatasetLimits(pixels=4095))
    file = io.BytesIO()
    Image.new("1", (30000, 30000)).save(file, "PNG")
    with zipfile.ZipFile(upload, "w") as archive:
        archive.writestr("a/bomb.png", file.getvalue())
    with pytest.raises(InvalidDataset, match="pixels"):
        inspect_dataset(upload)


def test_broken_images_and_other_files_are_named(tmp_path: Path) -> None:
    for name, words in (("a/x.png", "'x.png' is no readable|a/x.png"), ("a/x.exe", "x.exe")):
        with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
            archive.writestr(name, b"nothing")
        with pytest.raises(InvalidDataset, match=words):
            inspect_dataset(tmp_path / "upload")

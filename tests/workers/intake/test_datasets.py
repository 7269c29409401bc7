"""Datasets become memory-mapped arrays that fit the model, or a sentence that says why not."""

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.domain.datasets import Numbers, Picture
from app.domain.models import TensorSpec
from app.domain.problems import DatasetMismatch, InvalidDataset
from tests.workers.intake.datasets import npz, spec
from workers.compression.intake.datasets import fit_dataset, inspect_dataset

X = TensorSpec(name="x", dtype="float32", shape=["N", 3, 4])


def raw_npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def header(text: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + body


class TestNpz:
    def test_described_and_fitted_by_name_and_dtype(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).random((6, 3, 4))
        upload = npz(tmp_path / "upload", x=x, targets=np.array([0, 1, 2, 0, 1, 2]))
        found = inspect_dataset(upload)
        assert (found.format, found.samples) == ("npz", 6)
        assert found.arrays == [spec("x", "float64", 6, 3, 4)]
        assert found.targets is not None
        assert (found.targets.dtype, found.targets.classes) == ("int64", 3)
        data = fit_dataset(upload, [X], tmp_path)
        assert data.inputs["x"].dtype == np.float32
        assert isinstance(data.inputs["x"], np.memmap)
        np.testing.assert_allclose(data.inputs["x"], x, rtol=1e-6)
        np.testing.assert_array_equal(data.targets, [0, 1, 2, 0, 1, 2])
        assert len(data) == 6

    def test_without_targets_is_fine(self, tmp_path: Path) -> None:
        upload = npz(tmp_path / "upload", x=np.zeros((2, 3, 4), np.float32))
        assert fit_dataset(upload, [X], tmp_path).targets is None

    def test_fortran_order_and_foreign_byte_order_are_read(self, tmp_path: Path) -> None:
        x = np.arange(24.0).reshape(2, 3, 4)
        upload = npz(tmp_path / "upload", x=np.asfortranarray(x).astype(">f8"))
        np.testing.assert_array_equal(fit_dataset(upload, [X], tmp_path).inputs["x"], x)

    def test_truth_values_in_fortran_order_are_read(self, tmp_path: Path) -> None:
        mask = np.arange(24).reshape(2, 3, 4) % 5 == 0
        upload = npz(tmp_path / "upload", mask=np.asfortranarray(mask))
        data = fit_dataset(upload, [spec("mask", "bool", "N", 3, 4)], tmp_path)
        np.testing.assert_array_equal(data.inputs["mask"], mask)

    def test_integers_are_narrowed_only_when_they_fit(self, tmp_path: Path) -> None:
        ids = spec("ids", "int32", "N", 2)
        upload = npz(tmp_path / "upload", ids=np.array([[1, 2]], np.int64))
        assert fit_dataset(upload, [ids], tmp_path).inputs["ids"].dtype == np.int32
        upload = npz(tmp_path / "upload.npz", ids=np.array([[1, 2**40]], np.int64))
        with pytest.raises(DatasetMismatch, match="1099511627776, which does not fit"):
            fit_dataset(upload, [ids], tmp_path)

    def test_floats_are_narrowed_only_when_they_fit(self, tmp_path: Path) -> None:
        x = np.full((2, 3, 4), 1e30)
        x[1, 0, 0] = np.inf
        upload = npz(tmp_path / "upload", x=x)
        assert fit_dataset(upload, [X], tmp_path).inputs["x"].dtype == np.float32
        upload = npz(tmp_path / "upload.npz", x=1e10 * x)
        with pytest.raises(
            DatasetMismatch, match=r"1e\+40, which does not fit the model's float32"
        ):
            fit_dataset(upload, [X], tmp_path)

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"y": np.zeros((2, 3, 4))}, "input 'x' has no array"),
            ({"x": np.zeros((2, 3, 4), np.int64)}, "is int64, but the model's input is float32"),
            ({"x": np.zeros((2, 3, 4), np.uint8)}, r"astype\('float32'\), scaled.*divided by 255"),
            ({"x": np.zeros((2, 3, 5))}, r"has shape \[2, 3, 5\]"),
        ],
    )
    def test_a_mismatch_is_named(
        self, tmp_path: Path, arrays: dict[str, NDArray[Any]], words: str
    ) -> None:
        with pytest.raises(DatasetMismatch, match=words):
            fit_dataset(npz(tmp_path / "upload.npz", **arrays), [X], tmp_path)

    def test_sample_counts_that_differ_are_named(self, tmp_path: Path) -> None:
        upload = npz(tmp_path / "upload", x=np.zeros((2, 3)), y=np.zeros((3, 3)))
        with pytest.raises(InvalidDataset, match="'x' 2, 'y' 3"):
            inspect_dataset(upload)

    def test_object_arrays_are_refused_and_not_unpickled(self, tmp_path: Path) -> None:
        upload = npz(tmp_path / "upload", x=np.array([{"a": 1}], dtype=object))
        with pytest.raises(InvalidDataset, match="is object; only"):
            inspect_dataset(upload)

    @pytest.mark.parametrize(
        "member",
        [
            b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b" ",
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, ), }"),
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, ), }", b"0000"),
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, ), }", bytes(64)),
            header("{'descr': '<f4', 'fortran_order': __import__('os'), 'shape': (1, ), }"),
            header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, ), }"),
            header("(" * 60000),
            b"not an array",
        ],
        ids=["giant header", "overflow", "short", "long", "code", "fields", "deep", "magic"],
    )
    def test_a_lying_header_is_refused_before_anything_is_allocated(
        self, tmp_path: Path, member: bytes
    ) -> None:
        with pytest.raises(InvalidDataset):
            inspect_dataset(raw_npz(tmp_path / "upload", x=member))

    @pytest.mark.parametrize("dtype", [np.int64, np.float32])
    def test_no_samples_are_refused(self, tmp_path: Path, dtype: type) -> None:
        upload = npz(tmp_path / "upload", x=np.zeros((0, 3)), targets=np.zeros(0, dtype))
        with pytest.raises(InvalidDataset, match="no samples"):
            inspect_dataset(upload)

    @pytest.mark.parametrize("spoilt", [np.nan, np.inf])
    def test_targets_that_are_not_finite_are_refused_and_counted(
        self, tmp_path: Path, spoilt: float
    ) -> None:
        targets = np.zeros((4, 2), np.float32)
        targets[[1, 3], 1] = spoilt
        upload = npz(tmp_path / "upload", x=np.zeros((4, 3)), targets=targets)
        with pytest.raises(InvalidDataset, match="infinity in 2 samples, 1 first"):
            inspect_dataset(upload)

    def test_negative_classes_are_refused(self, tmp_path: Path) -> None:
        upload = npz(tmp_path / "upload", x=np.zeros((2, 3)), targets=np.array([-1, 0]))
        with pytest.raises(InvalidDataset, match=r"from -1 to 0.*Leave out samples"):
            inspect_dataset(upload)


class TestParquet:
    def test_lists_are_reshaped_to_the_input(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).random((5, 12)).astype(np.float32)
        table = pa.table({"id": list("abcde"), "x": x.tolist(), "targets": [0, 1, 0, 1, 1]})
        pq.write_table(table, tmp_path / "upload")
        found = inspect_dataset(tmp_path / "upload")
        assert found.arrays == [spec("x", "float64", 5, 12)]
        data = fit_dataset(tmp_path / "upload", [X], tmp_path)
        np.testing.assert_array_equal(data.inputs["x"], x.reshape(5, 3, 4))
        np.testing.assert_array_equal(data.targets, [0, 1, 0, 1, 1])

    def test_nested_lists_scalars_and_one_dynamic_dimension(self, tmp_path: Path) -> None:
        table = pa.table({"x": np.arange(24.0).reshape(2, 3, 4).tolist(), "s": [1.0, 2.0]})
        pq.write_table(table, tmp_path / "upload")
        inputs = [spec("x", "float32", "N", 3, "T"), spec("s", "float32", "N")]
        data = fit_dataset(tmp_path / "upload", inputs, tmp_path)
        assert data.inputs["x"].shape == (2, 3, 4)
        assert data.inputs["s"].tolist() == [1, 2]

    @pytest.mark.parametrize(
        ("shape", "row"),
        [
            ([20, "n", 3], (20, 3)),
            ([3, "n", 8], (3, 8)),
            ([3, 1, 8], (3, 8)),
            (["n", 4, 6], (4, 6)),
            ([4, 6], (4, 6)),
        ],
    )
    def test_rows_take_the_inputs_shape_without_its_axis_of_samples(
        self, shape: list[int | str], row: tuple[int, ...], tmp_path: Path
    ) -> None:
        flat = np.arange(2 * np.prod(row), dtype=np.float32).reshape(2, -1)
        pq.write_table(pa.table({"x": flat.tolist()}), tmp_path / "upload")
        wanted = TensorSpec(name="x", dtype="float32", shape=shape)
        data = fit_dataset(tmp_path / "upload", [wanted], tmp_path)
        assert data.inputs["x"].shape == (2, *row)
        assert np.array_equal(data.inputs["x"].reshape(2, -1), flat)

    def test_rows_that_do_not_fill_the_shape_are_named(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [[1.0] * 11]}), tmp_path / "upload")
        with pytest.raises(DatasetMismatch, match=r"11 numbers a row.*\[3, 4\]"):
            fit_dataset(tmp_path / "upload", [X], tmp_path)

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ({"x": [[1.0, 2.0], [1.0]]}, "different lengths"),
            ({"x": [1.0, None]}, "missing values"),
            ({"x": ["a"]}, "no columns of numbers"),
            ({"x": [1.0], "targets": ["cat"]}, "store class numbers"),
        ],
    )
    def test_what_cannot_be_an_array_is_named(
        self, tmp_path: Path, table: dict[str, list[Any]], words: str
    ) -> None:
        pq.write_table(pa.table(table), tmp_path / "upload")
        with pytest.raises(InvalidDataset, match=words):
            inspect_dataset(tmp_path / "upload")

    def test_parquet_that_lies_about_its_rows_is_refused(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [float(i) for i in range(77)]}), tmp_path / "upload")
        data = (tmp_path / "upload").read_bytes()
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        lie = data[:footer] + data[footer:].replace(b"\x9a\x01", b"\xfe\x7f")  # zigzag 77 → 8191
        assert lie != data
        (tmp_path / "upload").write_bytes(lie)
        with pytest.raises(InvalidDataset):
            inspect_dataset(tmp_path / "upload")

    def test_mutated_parquet_never_gets_further_than_a_problem(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [[1.0, 2.0]] * 9, "targets": [0] * 9}), tmp_path / "good")
        good = (tmp_path / "good").read_bytes()
        generator = np.random.default_rng(0)
        for _ in range(150):
            bad = bytearray(good)
            for position in generator.integers(4, len(bad), 3):
                bad[position] = int(generator.integers(0, 256))
            (tmp_path / "upload").write_bytes(bytes(bad))
            with contextlib.suppress(InvalidDataset):
                inspect_dataset(tmp_path / "upload")


def test_an_unknown_format_is_told_what_to_upload(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"1,2,3\n")
    with pytest.raises(InvalidDataset, match=r"Upload an \.npz"):
        inspect_dataset(tmp_path / "upload")


def test_people_see_samples_of_every_part_as_what_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    upload = npz(
        tmp_path / "upload",
        photo=rng.random((60, 3, 20, 30), dtype=np.float32),
        map=rng.normal(size=(60, 16, 16)),
        sound=rng.normal(size=(60, 1, 500)).astype(np.float32),
        ids=np.arange(60 * 20).reshape(60, 20),
        targets=np.repeat([0, 1, 2], 20),
    )
    description = inspect_dataset(upload)
    assert description.targets is not None
    assert description.targets.counts == [20, 20, 20]
    assert {glimpse.target for glimpse in description.glimpses} == {"0", "1", "2"}
    kinds = {glimpse.array: glimpse.shown.kind for glimpse in description.glimpses}
    assert kinds == {"photo": "picture", "map": "picture", "sound": "wave", "ids": "numbers"}
    first = {glimpse.array: glimpse.shown for glimpse in description.glimpses if not glimpse.sample}
    assert isinstance(first["photo"], Picture)
    with Image.open(io.BytesIO(first["photo"].png)) as image:
        assert (image.size, image.mode) == ((30, 20), "RGB")
    assert isinstance(first["ids"], Numbers)
    assert first["ids"].text.startswith("0, 1, 2, 3")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_samples_without_a_finite_number_are_shown_too(tmp_path: Path, value: float) -> None:
    upload = tmp_path / "upload"
    wide = np.full((3, 16, 16), value, np.float32)
    sound, few, none = wide.reshape(3, 256), wide[:, 0, :2], wide[:, :0]
    npz(upload, map=wide, sound=sound, few=few, none=none)
    shown = {glimpse.array: glimpse.shown.kind for glimpse in inspect_dataset(upload).glimpses}
    assert shown == {"map": "picture", "sound": "wave", "few": "numbers"}

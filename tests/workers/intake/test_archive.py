"""Archives: every trick is refused in words, and nothing lands outside of the directory."""

import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.problems import InvalidModel
from workers.compression.intake.archive import unpack
from workers.compression.intake.limits import ArchiveLimits

MIB = 1 << 20


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, *entries: tuple[str | tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def refused(path: Path, words: str, limits: ArchiveLimits | None = None) -> None:
    """Unpack into a directory of its own, expect a refusal and nothing beside that directory."""
    into = path.parent / "jail" / "into"
    into.mkdir(parents=True)
    with pytest.raises(InvalidModel, match=words):
        unpack(path, into, limits or ArchiveLimits())
    assert [entry.name for entry in into.parent.iterdir()] == ["into"]
    assert not any(entry.is_symlink() for entry in into.rglob("*"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_files_are_unpacked_whole_however_they_are_packed(tmp_path: Path, mode: str) -> None:
    data = os.urandom(3 * MIB + 17)
    long = "d" * 90 + "/" + "f" * 90 + ".bin"
    path = tarred(tmp_path / "upload", ("a/model.onnx", b"x" * 1000), (long, data), mode=mode)
    into = tmp_path / "into"
    into.mkdir()
    unpack(path, into, ArchiveLimits())
    assert (into / "a/model.onnx").read_bytes() == b"x" * 1000
    assert (into / long).read_bytes() == data


def test_zip_files_are_unpacked_whole(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 17)
    path = zipped(tmp_path / "upload", ("a/", b""), ("a/model.onnx", b"x" * 1000), ("b.bin", data))
    into = tmp_path / "into"
    into.mkdir()
    unpack(path, into, ArchiveLimits())
    assert (into / "a/model.onnx").read_bytes() == b"x" * 1000
    assert (into / "b.bin").read_bytes() == data
    assert stat.S_IMODE((into / "b.bin").stat().st_mode) == 0o600


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "..\\evil", "a\\..\\..\\evil", "C:/evil", "c:evil"],
)
def test_zip_slip(tmp_path: Path, pack: Callable[..., Path], name: str) -> None:
    refused(pack(tmp_path / "upload", ("fine", b"1"), (name, b"x")), "points outside")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("evil")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    refused(zipped(tmp_path / "upload", (entry, b"/etc/passwd")), "link or a device")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
     tarfile.GNUTYPE_SPARSE],
)  # fmt: skip
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("evil")
    entry.type, entry.linkname = kind, "/etc/passwd"
    refused(tarred(tmp_path / "upload", (entry, b"")), "link or a device|sparse|broken")


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("second", ["a.onnx", "A.ONNX", "./a.onnx", "a.onnx/b"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(tmp_path: Path, pack: Callable[..., Path], second: str) -> None:
    path = pack(tmp_path / "upload", ("a.onnx", b"1"), (second, b"2"))
    refused(path, "more than once|another entry|broken")


def test_an_encrypted_entry(tmp_path: Path) -> None:
    path = zipped(tmp_path / "upload", ("a.onnx", b"1"))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    refused(path, "encrypted")


def test_a_bomb_is_stopped_by_its_ratio_while_it_unpacks(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "upload", ("zeros", bytes(64 * MIB))), "times its size")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_packed_tar_bomb(tmp_path: Path, mode: str) -> None:
    path = tarred(tmp_path / "upload", ("zeros", bytes(64 * MIB)), mode=mode)
    refused(path, "times its size")


def test_nested_bombs_stay_packed(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner", ("zeros", bytes(8 * MIB))).read_bytes()
    path = zipped(tmp_path / "upload", *((f"{index}.zip", inner) for index in range(16)))
    into = tmp_path / "into"
    into.mkdir()
    unpack(path, into, ArchiveLimits())
    assert sum(file.stat().st_size for file in into.iterdir()) < MIB


def test_42_zip_with_overlapping_entries(tmp_path: Path) -> None:
    """Many directory entries share one packed body, so that a small file unpacks without end."""
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = body.compress(bytes(MIB)) + body.flush()
    crc = zlib.crc32(bytes(MIB))
    figures = (20, 0, 8, 0, 0, crc, len(packed), MIB)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", *figures, 1, 0) + b"a" + packed
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, *figures, 1, 0, 0, 0, 0, 0, 0) + b"a"
        for _ in range(100)
    )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 100, 100, len(directory), len(local), 0)
    (tmp_path / "upload").write_bytes(local + directory + end)
    refused(tmp_path / "upload", "overlaps")


def test_a_header_that_understates_its_size_gains_nothing(tmp_path: Path) -> None:
    path = zipped(tmp_path / "upload", ("a", bytes(MIB)))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    refused(path, "broken")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_too_many_entries(tmp_path: Path, pack: Callable[..., Path]) -> None:
    path = pack(tmp_path / "upload", *((str(index), b"") for index in range(11)))
    refused(path, "more than 10 entries", ArchiveLimits(entries=10))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_too_many_bytes(tmp_path: Path, pack: Callable[..., Path]) -> None:
    path = pack(tmp_path / "upload", ("a", os.urandom(600)), ("b", os.urandom(600)))
    refused(path, "more than 1000 bytes", ArchiveLimits(total=1000))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_too_deep(tmp_path: Path, pack: Callable[..., Path]) -> None:
    refused(pack(tmp_path / "upload", ("d/" * 50 + "a", b"1")), "nest deeper")


def test_a_giant_extended_header_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    block = header.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "upload").write_bytes(block[:512] + bytes(4096))
    refused(tmp_path / "upload", "header is too large")


def test_an_xz_that_asks_for_gigabytes_of_dictionary(tmp_path: Path) -> None:
    import lzma

    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    tar = tarred(tmp_path / "tar", ("a", b"1")).read_bytes()
    (tmp_path / "upload").write_bytes(lzma.compress(tar, filters=filters))
    refused(tmp_path / "upload", "broken")


@pytest.mark.parametrize("length", [0, 4, 30, 100, 150])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_truncated_archive(tmp_path: Path, pack: Callable[..., Path], length: int) -> None:
    path = pack(tmp_path / "upload", ("a.onnx", os.urandom(1000)))
    path.write_bytes(path.read_bytes()[:length])
    refused(path, "broken|no files")

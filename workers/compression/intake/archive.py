"""Unpacks an uploaded archive into an empty directory, without trusting its headers.

The result is plain files and directories below the target, each new, none reached through a link.
Bytes are counted while they are written; sizes in headers are not believed. Archives inside of
archives stay packed.
"""

from pathlib import Path

from app.domain.problems import Failed, InvalidModel
from workers.compression.intake import tars, zips
from workers.compression.intake.limits import ArchiveLimits
from workers.compression.intake.unpacker import Unpacker


def unpack(
    path: Path,
    into: Path,
    limits: ArchiveLimits,
    problem: type[Failed] = InvalidModel,
) -> None:
    """Unpack a zip or tar (plain, gzip, bzip2, xz), recognised by its bytes.

    Args:
        path: the archive.
        into: an empty directory.
        limits: entries, bytes, ratio, depth.
        problem: the kind of problem to raise.

    Raises:
        Failed: of the kind ``problem``: links, devices, encryption, names that point outside,
            repeat or clash, too many entries, too many bytes, or a broken archive.
    """
    unpacker = Unpacker(into, limits, path.stat().st_size, problem)
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            zips.unpack(path, unpacker)
        else:
            tars.unpack(path, unpacker)
    if not unpacker.names:
        unpacker.refuse("it holds no files")

"""Checks HDF5 files: no references to other files, no sizes out of proportion to the file."""

from pathlib import Path

import h5py

from app.domain.problems import InvalidModel

_OBJECTS = 200_000
_RATIO = 250
_RATIO_FROM = 16 << 20


def check(path: Path) -> None:
    """Walk a file's objects, and require that their data is in the file.

    Raises:
        InvalidModel: the file is broken, refers to other files, or states impossible sizes.
    """
    try:
        with h5py.File(path, "r") as file:
            _walk(file, path.stat().st_size)
    except InvalidModel:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(
            "The HDF5 file is broken or was cut off: save the model again and upload that."
        ) from error


def _walk(file: h5py.File, size: int) -> None:
    pending: list[h5py.Group] = [file]
    objects, total = 0, 0
    while pending:
        group = pending.pop()
        for name in group:
            objects += 1
            if objects > _OBJECTS:
                raise InvalidModel(f"The HDF5 file holds more than {_OBJECTS} objects.")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InvalidModel(
                    f"The HDF5 file has a link named '{name[:80]}' in place of an object: save the"
                    " model into one file without links."
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                pending.append(item)
                continue
            if not isinstance(item, h5py.Dataset):
                continue
            total += _bytes(item, name)
            if total > max(_RATIO_FROM, _RATIO * size):
                raise InvalidModel(
                    f"The HDF5 file claims arrays of {total} bytes, and has {size}: save the model"
                    " again without compression."
                )


def _bytes(dataset: h5py.Dataset, name: str) -> int:
    if dataset.is_virtual or dataset.external:
        raise InvalidModel(
            f"The array '{name[:80]}' of the HDF5 file lies in another file: save the model into"
            " one file."
        )
    return int(dataset.nbytes)

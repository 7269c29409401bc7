"""What files of each format are called, so that no name promises another content."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from planish.errors import Misnamed
from planish.types import Artifact

_SUFFIXES = {
    "onnx": ".onnx",
    "ort": ".ort",
    "litert": ".tflite",
    "executorch": ".pte",
    "pt2": ".pt2",
}
"""The suffix of a file by its format; all others are zips."""

_ZIP = ".zip"
_TELLING = {*_SUFFIXES.values(), _ZIP}
"""Suffixes that say what is in a file; under another one it may hold anything."""


def suffix_of(artifact: Artifact) -> str:
    """Return the suffix of a job's file."""
    return Path(artifact.filename).suffix or _suffix(artifact.format)


def chosen(offered: Sequence[Artifact], to: Path) -> Artifact:
    """Return the first file that a name fits; the first of all where it fits none."""
    return next((each for each in offered if _fits(suffix_of(each), to)), offered[0])


def require_fitting(artifact: Artifact, to: Path) -> None:
    """Refuse to write a file under a name that promises another content.

    Raises:
        Misnamed: it says which name would do.
    """
    if not _fits(suffix_of(artifact), to):
        raise _misnamed(to, {artifact.format: suffix_of(artifact)})


def require_name(formats: Iterable[str], to: Path) -> None:
    """Refuse a name that none of the formats fits which a job is to deliver.

    Raises:
        Misnamed: it says which names would do.
    """
    suffixes = {name: _suffix(name) for name in formats}
    if suffixes and not any(_fits(suffix, to) for suffix in suffixes.values()):
        raise _misnamed(to, suffixes)


def _suffix(name: str) -> str:
    return _SUFFIXES.get(name, _ZIP)


def _fits(suffix: str, to: Path) -> bool:
    return to.suffix.lower() not in _TELLING - {suffix} or to.is_dir()


def _misnamed(to: Path, suffixes: dict[str, str]) -> Misnamed:
    comes = " and ".join(f"{name} ({suffix})" for name, suffix in suffixes.items())
    names = " or ".join(dict.fromkeys(str(to.with_suffix(each)) for each in suffixes.values()))
    return Misnamed(f"{to} would hold something else: what comes is {comes}. Name it {names}.")

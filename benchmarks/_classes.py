"""Tasks of classes that need no download but packages: clothes, e-mails and languages.

Each gives samples to train on and others to test with, which come from other pictures, other mails
and other recordings.
"""

import email
import sys
import tarfile
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks import _clothes
from benchmarks._cache import CACHE
from benchmarks._emails import archive

Arrays = tuple[NDArray[Any], NDArray[np.int64]]

TRAIN = 2000
"""Samples to train on."""
ALPHABET = "\x00 abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()-/@$%&*+=<>_#"
_LETTERS = 128
"""Characters of an e-mail that are read."""
_MAILS = {"easy-ham-1": 0, "hard-ham-1": 1, "spam-1": 2, "spam-2": 2}
_LANGUAGES = ("en", "es", "fr", "it")
_FRAME, _FRAMES, _BANDS = 128, 32, 32
"""Samples of 8 kHz of a frame, frames of a sample, mel bands."""
_SOUNDS = Path("/usr/share/asterisk/sounds")


@dataclass(frozen=True)
class Data:
    """Inputs ``[samples, …]`` and classes."""

    train: Arrays
    test: Arrays
    classes: int


def _drawn(inputs: NDArray[Any], classes: NDArray[np.int64], count: int) -> Arrays:
    rows = np.random.default_rng(0).permutation(len(inputs))[:count]
    return inputs[rows], classes[rows]


@cache
def clothes() -> Data:
    """Return Fashion-MNIST at half size, float ``[N, 1, 14, 14]``."""

    def halved(part: Literal["train", "t10k"]) -> Arrays:
        images, classes = _clothes.read(part)
        means = images.reshape(-1, 1, 14, 2, 14, 2).mean((3, 5)) / 255
        return means.astype(np.float32), classes

    return Data(_drawn(*halved("train"), TRAIN), _drawn(*halved("t10k"), 4000), 10)


@cache
def framed_clothes() -> Data:
    """Return Fashion-MNIST in a frame, float ``[N, 1, 32, 32]``."""
    train, test = _clothes.framed("train"), _clothes.framed("t10k")
    return Data(_drawn(*train, TRAIN), _drawn(*test, 4000), 10)


@cache
def mails() -> Data:
    """Return beginnings of three kinds of e-mails, SpamAssassin's corpus, int64 ``[N, 128]``."""
    texts, classes = list[NDArray[np.int64]](), list[int]()
    codes = {letter: code for code, letter in enumerate(ALPHABET)}
    with tarfile.open(archive()) as stored:
        for member in stored:
            folder = member.name.split("/")[2] if member.name.count("/") > 2 else ""
            if folder in _MAILS and member.name.endswith(".txt"):
                file = stored.extractfile(member)
                assert file is not None, "it is a file"
                letters = _body(file.read()).lower()[:_LETTERS].ljust(_LETTERS, "\x00")
                texts.append(np.array([codes.get(letter, 1) for letter in letters], np.int64))
                classes.append(_MAILS[folder])
    inputs, kinds = _drawn(np.stack(texts), np.array(classes, np.int64), len(texts))
    return Data((inputs[:TRAIN], kinds[:TRAIN]), (inputs[TRAIN:], kinds[TRAIN:]), 3)


def _body(raw: bytes) -> str:
    """Return the plain text of a mail."""
    mail = email.message_from_bytes(raw)
    for part in mail.walk():
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes) and part.get_content_maintype() == "text":
            return " ".join(payload.decode("latin-1").split())
    return ""


@cache
def languages() -> Data:
    """Return quarters of a second of speech in four languages, log-mel ``[N, 1, 32, 32]``.

    They are the announcements of Debian's packages ``asterisk-core-sounds-*-wav``.
    """
    sides = {True: list[Arrays](), False: list[Arrays]()}
    for language, name in enumerate(_LANGUAGES):
        for index, path in enumerate(_recordings(name)):
            pieces = _pieces(path)
            sides[index % 3 == 0].append((pieces, np.full(len(pieces), language, np.int64)))
    train, test = (
        _drawn(np.concatenate([x for x, _ in side]), np.concatenate([y for _, y in side]), count)
        for side, count in ((sides[False], TRAIN), (sides[True], 3000))
    )
    return Data(train, test, len(_LANGUAGES))


def _recordings(language: str) -> list[Path]:
    folder = CACHE / "asterisk-sounds"
    folder = folder if folder.exists() else _SOUNDS
    found = sorted(folder.glob(f"{language}_*/**/*.wav"))
    if not found:
        sys.exit(f"Install Debian's package asterisk-core-sounds-{language}-wav.")
    return found


def _pieces(path: Path) -> NDArray[np.float32]:
    """Return the loud pieces of a recording as log-mel spectra ``[N, 1, bands, frames]``."""
    with wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
    length = _FRAME * _FRAMES // 2
    found = [
        _spectrum(sound[start : start + length + _FRAME])
        for start in range(0, len(sound) - length - _FRAME, length)
        if np.abs(sound[start : start + length]).mean() > 0.02
    ]
    return np.array(found, np.float32).reshape(-1, 1, _BANDS, _FRAMES)


def _spectrum(sound: NDArray[np.float64]) -> NDArray[np.float32]:
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FRAME)[:: _FRAME // 2][:_FRAMES]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1)) ** 2
    bands: NDArray[np.float64] = np.log(power @ _mel().T + 1e-6).T / 4
    return bands.astype(np.float32)


@cache
def _mel() -> NDArray[np.float64]:
    """Return triangles that are even on the mel scale, ``[bands, frequencies]``."""
    edges = 700 * (np.exp(np.linspace(0, np.log(1 + 4000 / 700), _BANDS + 2)) - 1)
    places = edges / 4000 * (_FRAME // 2)
    bins = np.arange(_FRAME // 2 + 1)
    rising = (bins - places[:-2, None]) / (places[1:-1] - places[:-2])[:, None]
    falling = (places[2:, None] - bins) / (places[2:] - places[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, 1)


TASKS: Mapping[str, Callable[[], Data]] = {
    "images": clothes,
    "framed images": framed_clothes,
    "text": mails,
    "audio": languages,
}

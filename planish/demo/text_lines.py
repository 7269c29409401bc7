"""A real trained model and real data for it: PP-OCRv6, which reads a line of text, and lines.

The model comes with the package ``rapidocr`` (Apache 2.0, PaddleOCR's weights). The lines are drawn
with the font inside Pillow, so nothing is downloaded, and what they say is known.
"""

import importlib.util
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

HEIGHT, WIDTH = 48, 320
_GRAIN = 24
"""Standard deviation of the noise, in steps of 1/255: a cheap camera."""

_TEXT = """
the quick brown fox jumps over a lazy dog Invoice total amount date street Copenhagen Planish 2026
No. 4711 EUR 12.50 Please pay within thirty days hammer metal sheet smooth thin surface without
losing its shape Chapter Figure 3.14 Table between measured
"""
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Lines:
    """Images of text and what they say."""

    images: "NDArray[np.float32]"
    """``[lines, 3, 48, 320]`` in -1 to 1, blue first: what the model was trained on."""
    texts: list[str]


def model_path() -> Path:
    """Return the trained model's file.

    Raises:
        ModuleNotFoundError: ``rapidocr`` is not installed.
    """
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the demo's model is in the package rapidocr")
    return Path(spec.submodule_search_locations[0]) / "models" / "PP-OCRv6_rec_small.onnx"


def draw(
    count: int, seed: int, words: Sequence[str] = _WORDS, fonts: Sequence[Path | None] = (None,)
) -> Lines:
    """Draw ``count`` different lines; the same arguments draw the same ones.

    Args:
        count: how many.
        seed: of all that is random.
        words: what they are made of.
        fonts: files of fonts that take turns at random; None is the one inside Pillow.
    """
    import numpy as np

    rng = random.Random(seed)  # noqa: S311 (no secret)
    drawn = [_line(rng, words, fonts) for _ in range(count)]
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image, _ in drawn])
    grain = np.random.default_rng(seed).normal(0, _GRAIN, pixels.shape).astype(np.float32)
    scaled = (np.clip((pixels + grain).round(), 0, 255) / 255 - 0.5) / 0.5
    images = np.ascontiguousarray(scaled[..., ::-1].transpose(0, 3, 1, 2))
    return Lines(images, [text for _, text in drawn])


def read(model: Path, images: "NDArray[np.float32]") -> list[str]:
    """Read the images with ``model``: the most likely character of each position (CTC, greedy)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    characters = ["", *_alphabet(), " "]
    return [
        _collapse(session.run(None, {name: image[None]})[0][0].argmax(-1).tolist(), characters)
        for image in images
    ]


def share_read_correctly(read: list[str], written: list[str]) -> float:
    """Return the share of the written characters that were read, one minus the error rate."""
    errors = sum(_edits(a, b) for a, b in zip(read, written, strict=True))
    return 1 - errors / sum(map(len, written))


def _line(
    rng: random.Random, words: Sequence[str], fonts: Sequence[Path | None]
) -> "tuple[Image.Image, str]":
    """Draw one line at double size, in some ink on some paper; turn, blur and halve it."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    paper = tuple(rng.randint(170, 255) for _ in range(3))
    ink = tuple(rng.randint(0, 120) for _ in range(3))
    image = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), paper)
    draw = ImageDraw.Draw(image)
    size = rng.randint(HEIGHT * 7 // 8, HEIGHT * 3 // 2)
    file = fonts[0] if len(fonts) == 1 else rng.choice(fonts)
    font: Any = ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
    text = rng.choice(words)
    while draw.textlength(longer := f"{text} {rng.choice(words)}", font=font) < 1.9 * WIDTH:
        text = longer
    draw.text((rng.randint(2, 12), rng.randint(0, HEIGHT * 2 // 5)), text, font=font, fill=ink)
    turned = image.rotate(rng.uniform(-2, 2), Image.Resampling.BILINEAR, fillcolor=paper)
    blurred = turned.filter(ImageFilter.GaussianBlur(rng.uniform(0, 4)))
    return blurred.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), text


def _alphabet() -> list[str]:
    """Return the model's characters, which it carries as a property."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model_path()), providers=["CPUExecutionProvider"])
    properties: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return properties["character"].splitlines()


def _collapse(classes: list[int], characters: list[str]) -> str:
    changes = [c for c, before in zip(classes, [0, *classes], strict=False) if c != before]
    return "".join(characters[c] for c in changes)


def _edits(a: str, b: str) -> int:
    """Count the insertions, deletions and changes that lead from ``a`` to ``b`` (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]

"""A real reader of text without its source: PP-OCRv6's recognition, as the demo takes it.

What counts is how many characters it reads rightly, of lines in eight typefaces that are drawn
from words out of e-mails, turned, blurred and grainy.
"""

import sys
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks._cache import CACHE
from benchmarks._emails import sentences
from planish.demo import text_lines

TRAINED, JUDGED = 400, 240
_PACKAGED = Path("/usr/share/fonts/truetype/dejavu")
_FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerifCondensed-Italic",
)


def model() -> Path:
    """Return the network as it comes, with dynamic batch and width."""
    return text_lines.model_path()


def detector() -> Path:
    """Return the network that finds lines in a picture, with dynamic batch, height and width."""
    return text_lines.model_path().with_name("PP-OCRv6_det_small.onnx")


def dataset() -> Path:
    """Return drawn lines, as a user would upload them."""
    path = CACHE / f"text-lines-{TRAINED}.npz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(path, x=_draw(TRAINED, seed=0).images)
    return path


class Reading:
    """240 lines that are not in the dataset, and what they say."""

    def measures(self, model: Path) -> dict[str, float]:
        """Return the share of characters that ``model`` reads rightly, in percent."""
        read = text_lines.read(model, self._lines.images)
        return {"accuracy": 100 * text_lines.share_read_correctly(read, self._lines.texts)}

    @cached_property
    def _lines(self) -> text_lines.Lines:
        return _draw(JUDGED, seed=1)


def _draw(count: int, seed: int) -> text_lines.Lines:
    faces = [_PACKAGED / f"{face}.ttf" for face in _FACES]
    if not all(face.exists() for face in faces):
        sys.exit("The typefaces are missing: install Debian's package fonts-dejavu.")
    words = [word for sentence in sentences() for word in sentence.split()]
    return text_lines.draw(count, seed, words, [None, *faces])

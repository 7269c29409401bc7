"""``python -m planish.demo.example DIRECTORY``: the demo's model and data as files to upload."""

import shutil
import sys
from pathlib import Path

MODEL, DATA = "PP-OCRv6.onnx", "lines.npz"
_LINES = 128


def write(directory: Path) -> None:
    """Write the trained text reader and drawn lines of text.

    Raises:
        ModuleNotFoundError: ``rapidocr`` is not installed.
    """
    import numpy as np

    from planish.demo.text_lines import draw, model_path

    shutil.copyfile(model_path(), directory / MODEL)
    np.savez(directory / DATA, x=draw(_LINES, seed=0).images)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

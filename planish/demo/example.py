"""``python -m planish.demo.example MODEL DATA``: the demo's model and data as files to upload."""

import shutil
import sys
from pathlib import Path

_LINES = 128


def write(model: Path, data: Path) -> None:
    """Write the trained text reader and drawn lines of text.

    Args:
        model: the ONNX file to write.
        data: the ``.npz`` file to write.

    Raises:
        ModuleNotFoundError: ``rapidocr`` is not installed.
    """
    import numpy as np

    from planish.demo.text_lines import draw, model_path

    shutil.copyfile(model_path(), model)
    np.savez(data, x=draw(_LINES, seed=0).images)


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))

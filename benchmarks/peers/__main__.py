"""Makes the environments of peers: those named, or all. ``pip`` takes what each ``.txt`` pins."""

import subprocess
import sys
from pathlib import Path

from benchmarks._ptq_peers import ENVIRONMENTS


def main() -> None:
    pinned = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.txt"))}
    for name in sys.argv[1:] or pinned:
        place = ENVIRONMENTS / name
        print(f"{name}: {place}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        python, given = str(place / "bin/python"), str(pinned[name])
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", given], check=False)


if __name__ == "__main__":
    main()

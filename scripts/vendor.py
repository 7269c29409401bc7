"""Fetch the libraries that pages load, at pinned versions, with their licences.

``python -m scripts.vendor`` writes ``app/web/static/vendor`` anew; what it fetches must have the
digest that is written here.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "app" / "web" / "static" / "vendor"

PACKAGES = {
    "htmx.org@2.0.11": {
        "package/dist/htmx.min.js": (
            "htmx.min.js",
            "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        ),
        "package/LICENSE": (
            "htmx.LICENSE",
            "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
        ),
    }
}
"""From npm: of each package its files, what they are called here, and their SHA-256."""


def main() -> None:
    """Fetch everything, or stop where something is not what it was."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    for package, files in PACKAGES.items():
        archive = _fetched(package)
        for member, (name, digest) in files.items():
            content = archive.extractfile(member)
            assert content is not None, member
            data = content.read()
            if hashlib.sha256(data).hexdigest() != digest:
                sys.exit(f"{package} {member} is not what it was: look at it, then pin it anew.")
            (VENDOR / name).write_bytes(data)


def _fetched(package: str) -> tarfile.TarFile:
    with tempfile.TemporaryDirectory() as scratch:
        words = ["npm", "pack", package, "--silent"]
        done = subprocess.run(words, cwd=scratch, check=True, capture_output=True, text=True)
        data = (Path(scratch) / done.stdout.strip()).read_bytes()
    return tarfile.open(fileobj=io.BytesIO(data))


if __name__ == "__main__":
    main()

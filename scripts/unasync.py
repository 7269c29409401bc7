"""Make the client without ``async`` of the one with it.

``python -m scripts.unasync`` writes ``planish/_sync`` anew from ``planish/_async``, all but
``io.py``, in which both differ. The names are the same without ``Async``; ``async`` and ``await``
are left out.
"""

import io
import subprocess
import sys
import tokenize
from pathlib import Path

_PACKAGE = Path(__file__).parents[1] / "planish"
SOURCE = _PACKAGE / "_async"
TARGET = _PACKAGE / "_sync"
BY_HAND = "io.py"

_LEFT_OUT = {"async", "await"}
_NAMES = {
    "_async": "_sync",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aiter_lines": "iter_lines",
    "aread": "read",
    "asynccontextmanager": "contextmanager",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}
_NOTE = "# Made by scripts/unasync.py of planish/_async: change that, and run it again.\n"


def translated(source: str) -> str:
    """Return the same module without ``async``, formatted."""
    lines = source.splitlines(keepends=True)
    names = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NAME
    ]
    for token in reversed(names):
        (row, start), (_, end) = token.start, token.end
        line = lines[row - 1]
        new = _translated_name(token.string)
        rest = line[end:].lstrip(" ") if token.string in _LEFT_OUT else line[end:]
        lines[row - 1] = line[:start] + new + rest
    text = "".join(line.replace('"Async', '"') for line in lines)
    return _formatted(_NOTE + text)


def translations() -> dict[Path, str]:
    """Return what each file that is made has to hold."""
    sources = (file for file in sorted(SOURCE.glob("*.py")) if file.name != BY_HAND)
    return {TARGET / file.name: translated(file.read_text()) for file in sources}


def main() -> None:
    """Write all files."""
    for file, text in translations().items():
        file.write_text(text)


def _translated_name(name: str) -> str:
    if name in _LEFT_OUT:
        return ""
    if name.startswith("Async"):
        return name.removeprefix("Async")
    return _NAMES.get(name, name)


def _formatted(text: str) -> str:
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["check", "--select", "I,RUF022", "--fix-only", "--quiet"],
        ["format", "--quiet"],
    ):
        text = subprocess.run(
            [*ruff, *command, "--stdin-filename", "planish/_sync/made.py", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=_PACKAGE.parent,
        ).stdout
    return text


if __name__ == "__main__":
    main()

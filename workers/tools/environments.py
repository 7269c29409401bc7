"""Where the tools' environments are, and how one is made.

An environment is there once its ``tool.json`` is, which is written last.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from app.domain.targets import TOOL_NAMES, ToolName

_STAMP = "tool.json"
_RUNTIME: dict[ToolName, str] = {"litert": "ai-edge-litert"}


class NotInstalled(Exception):  # noqa: N818 (it says what happened)
    """An environment could not be made; its text says why."""


def base(chosen: Path | None) -> Path:
    """Return the directory of all environments: the chosen one, or one beside our packages."""
    return (chosen or Path(sys.prefix) / "planish-tools").absolute()


def python_of(directory: Path, tool: ToolName) -> Path:
    """Return the interpreter of a tool's environment."""
    return directory / tool / "bin" / "python"


def runtime_of(tool: ToolName) -> tuple[str, str]:
    """Return the name and version of what runs a tool's files, as they are pinned."""
    package = _RUNTIME[tool]
    pins = dict(line.split("==") for line in _pins(tool).read_text().split())
    return package, pins[package]


def installed(directory: Path) -> list[ToolName]:
    """Return the tools whose environments are whole and of the pins of this version."""
    return [tool for tool in TOOL_NAMES if _stamp(directory, tool) == _pins(tool).read_text()]


def install(directory: Path, tool: ToolName, tell: Callable[[str], None]) -> None:
    """Make a tool's environment, in place of what is there; nothing is done where it is whole.

    Args:
        directory: of all environments.
        tool: its name.
        tell: told what is being done.

    Raises:
        NotInstalled: pip or venv failed; nothing is left.
    """
    if tool in installed(directory):
        tell(f"{tool} is there already")
        return
    own = directory / tool
    shutil.rmtree(own, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    tell(f"installing {tool} into {own}")
    pip = [sys.executable, "-m", "pip", "--python", str(python_of(directory, tool)), "install"]
    try:
        _run([sys.executable, "-m", "venv", "--without-pip", str(own)])
        _run([*pip, "--quiet", "--no-deps", "--requirement", str(_pins(tool))])
    except NotInstalled:
        shutil.rmtree(own, ignore_errors=True)
        raise
    (own / _STAMP).write_text(json.dumps(_pins(tool).read_text()))


def _run(words: list[str]) -> None:
    ended = subprocess.run(words, check=False, capture_output=True, text=True)
    if ended.returncode:
        last = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstalled("; ".join(last) or ended.stderr[-500:] or f"{words[2]} failed")


def _pins(tool: ToolName) -> Path:
    return Path(__file__).with_name(f"{tool}.txt")


def _stamp(directory: Path, tool: ToolName) -> str | None:
    try:
        return str(json.loads((directory / tool / _STAMP).read_text()))
    except (OSError, ValueError):
        return None

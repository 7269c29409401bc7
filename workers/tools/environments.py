"""Where the tools' environments are, and how one is made.

Most have a Python of their own. The runtime for browsers is files alone, from the package registry
of JavaScript.

An environment is there once its ``tool.json`` is, which is written last.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from app.domain.targets import TOOL_NAMES, TOOL_OF, OutputFormat, ToolName

_STAMP = "tool.json"
_RUNTIME: dict[OutputFormat, str] = {
    "litert": "ai-edge-litert",
    "litert_micro": "tflite-micro",
    "executorch": "executorch",
    "web": "onnxruntime-web",
}
"""The package that runs the files of a format."""
FILES_ALONE: frozenset[ToolName] = frozenset({"web"})
"""Tools that nothing is started of: their files go into the artifact."""
_PACKAGE_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class NotInstalled(Exception):  # noqa: N818 (it says what happened)
    """An environment could not be made; its text says why."""


def base(chosen: Path | None) -> Path:
    """Return the directory of all environments: the chosen one, or one beside our packages."""
    return (chosen or Path(sys.prefix) / "planish-tools").absolute()


def python_of(directory: Path, tool: ToolName) -> Path:
    """Return the interpreter of a tool's environment."""
    return directory / tool / "bin" / "python"


def runtime_of(name: OutputFormat) -> tuple[str, str]:
    """Return the name and version of what runs a format's files, as its tool pins them."""
    package = _RUNTIME[name]
    lines = _pins(TOOL_OF[name]).read_text().splitlines()
    return package, dict(line.split()[0].split("==") for line in lines)[package]


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
        NotInstalled: a package could not be had; nothing is left.
    """
    if tool in installed(directory):
        tell(f"{tool} is there already")
        return
    own = directory / tool
    shutil.rmtree(own, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    tell(f"installing {tool} into {own}")
    try:
        if tool in FILES_ALONE:
            _unpack_from_npm(own, tool)
        else:
            _make_python(directory, own, tool)
    except NotInstalled:
        shutil.rmtree(own, ignore_errors=True)
        raise
    (own / _STAMP).write_text(json.dumps(_pins(tool).read_text()))


def files_of(directory: Path, tool: ToolName) -> list[Path]:
    """Return the files of a tool that is files alone."""
    return [directory / tool / name for name in _PACKAGE_FILES]


def _make_python(directory: Path, own: Path, tool: ToolName) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python_of(directory, tool)), "install"]
    _run([sys.executable, "-m", "venv", "--without-pip", str(own)])
    _run([*pip, "--quiet", "--no-deps", "--requirement", str(_pins(tool))])


def _unpack_from_npm(own: Path, tool: ToolName) -> None:
    """Download a package, check its pinned digest, and unpack what goes into artifacts."""
    if shutil.which("npm") is None:
        raise NotInstalled("npm is not installed here, and the package is one of JavaScript")
    own.mkdir()
    package, version = runtime_of("web")
    _run(["npm", "pack", f"{package}@{version}", "--ignore-scripts", f"--pack-destination={own}"])
    archive = own / f"{package}-{version}.tgz"
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"--integrity=sha512-{digest}" not in _pins(tool).read_text().split():
        raise NotInstalled(f"{package} {version} is not the file that is pinned")
    with tarfile.open(archive) as packed:
        for name in _PACKAGE_FILES:
            member = packed.extractfile(f"package/dist/{name}")
            assert member is not None, "the digest says what is in it"
            (own / name).write_bytes(member.read())
    archive.unlink()


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

"""Output formats of compressed models, and the runtimes and devices that workers announce."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

OutputFormat = Literal[
    "onnx",
    "ort",
    "openvino",
    "litert",
    "litert_micro",
    "executorch",
    "coreml",
    "pt2",
    "web",
    "source",
]

OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)

ToolName = Literal["litert", "executorch", "web"]
"""What formats need that is installed apart: a converter in its Python environment, or files."""

TOOL_OF: dict[OutputFormat, ToolName] = {
    "litert": "litert",
    "litert_micro": "litert",
    "executorch": "executorch",
    "web": "web",
}
"""The tool that makes and runs a format; formats that are not here need none."""

EXPORTED: frozenset[OutputFormat] = frozenset(
    {"litert", "litert_micro", "executorch", "coreml", "pt2"}
)
"""Formats that are made of an exported torch program."""

FIXED = EXPORTED - {"pt2"}
"""Formats whose shapes are those of one run."""

TOOL_NAMES: tuple[ToolName, ...] = tuple(dict.fromkeys(TOOL_OF.values()))
"""The tools that are offered."""

INSTALLED_BY: dict[OutputFormat, str] = {
    "openvino": "pip install 'planish[openvino]'",
    "coreml": "pip install 'planish[coreml]'",
    **{name: f"planish tools install {tool}" for name, tool in TOOL_OF.items()},
}
"""The command that gives a worker a format which it may lack."""


def how_to_add(name: OutputFormat) -> str:
    """Return a sentence on how workers get a format that none of them has, after a space."""
    command = INSTALLED_BY.get(name)
    return f" Where a worker runs, '{command}' adds it; then start it again." if command else ""


class Device(BaseModel):
    """One processor that a worker offers."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["cpu", "cuda"]
    instruction_sets: list[str]
    threads: int


class Target(BaseModel):
    """An output format with the runtime that its figures are measured on."""

    model_config = ConfigDict(frozen=True)

    target: OutputFormat
    runtime: str
    version: str
    devices: list[Device]
    accelerates: list[str]
    """What runs faster on these devices, such as ``int8`` or ``float16``."""

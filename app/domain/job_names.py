"""What jobs are called: by the name that people gave them, else by what they do to what.

Files that people download are called after the model, the job and the format: in a directory of
many, each says what it is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from app.domain.frozen import words
from app.domain.request_parts import Objective
from app.domain.steps import Step

LESS = {"latency": "time", "size": "size", "macs": "multiplications"}
"""What may be minimised, as people call it."""

_MOST = 3
"""Parameters of a step that are told."""

_UPLOADED = re.compile(
    r"\.(onnx|keras|h5|hdf5|pt|pth|pt2|safetensors|zip|tar|tgz|gz)$", re.IGNORECASE
)
"""The ends of names of uploads, which results have of their own."""

_APART = re.compile(r"[^\w.]+")
"""What stands between the words of a name, and is a hyphen in a file's."""

_LONGEST = 60
"""Characters of a name in a file's."""

_MOST_BYTES = 90
"""Bytes of it in UTF-8: no file system takes more than 255 for two such names and the rest."""

_TAIL = 6
"""Characters of a job's id that tell its file from those of others that do the same."""


class Work(Protocol):
    """What a job was asked to do."""

    @property
    def steps(self) -> list[Any] | None:
        """The steps in their order; None for a search, and for a measurement of layers."""

    @property
    def objective(self) -> Objective | None:
        """What a search looks for; None for other jobs."""

    @property
    def measure(self) -> str | None:
        """What is measured of a model; None for other jobs."""

    @property
    def deliver(self) -> list[Any]:
        """The formats of the result."""


def title(name: str | None, work: Work, model: str | None) -> str:
    """Return what a job is called in lists.

    Args:
        name: what people call it.
        work: what it does.
        model: what its model is called; None where that was deleted, or has no name.
    """
    return name or ": ".join(filter(None, (model, work_of(work))))


def work_of(work: Work) -> str:
    """Return what a job does, with what tells it from others, in few words."""
    if work.steps:
        return methods_of(work.steps)
    if work.measure:
        return "Measurement of layers"
    if work.objective:
        return f"Search for less {LESS[work.objective.minimize]}"
    return f"Other formats ({', '.join(work.deliver)})"


def methods_of(steps: Iterable[Step]) -> str:
    """Return steps in their order: their methods, and the parameters that are not as usual."""
    return " → ".join(map(_step, steps))


def _step(step: Step) -> str:
    changed = [*_in_words(step.model_dump(mode="json", exclude_defaults=True, exclude={"method"}))]
    more = ["…"] if len(changed) > _MOST else []
    return f"{step.title} ({', '.join(changed[:_MOST] + more)})" if changed else step.title


def _in_words(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield parameters as a person would name them; lists are left out."""
    for name, value in parameters.items():
        called = words(name).lower()
        if isinstance(value, dict):
            yield from _in_words(value)
        elif isinstance(value, bool):
            yield called if value else f"no {called}"
        elif isinstance(value, int | float):
            yield f"{called} {value:g}"
        elif isinstance(value, str):
            yield f"{called} {value}"


def file_name(model: str | None, name: str | None, work: Work, job: str, kept: str) -> str:
    """Return the name that a file of a job is downloaded by, such as ``digits-prune-4f0c2a.onnx``.

    Args:
        model: what the model is called; None where that was deleted, or has no name.
        name: what people call the job.
        work: what it does.
        job: its id.
        kept: the name that the file has in the job, such as ``model-openvino.zip``.
    """
    methods = "-".join(step.method for step in work.steps or [])
    did = name or methods or ("search" if work.objective else "")
    parts = [stem(model) or "model", _spelled(did), job[-_TAIL:]]
    rest = kept.removeprefix("model")
    return "-".join(filter(None, parts)) + (rest if rest[:1] in {".", "-"} else f"-{rest}")


def stem(model: str | None) -> str:
    """Return how the names of a model's files begin; nothing where it has no name."""
    called = model or ""
    while (shorter := _UPLOADED.sub("", called)) != called:
        called = shorter
    return _spelled(called)


def _spelled(name: str) -> str:
    """Return a name as a part of a file's: letters and digits of any language, and dots."""
    short = _APART.sub("-", name)[:_LONGEST].encode()[:_MOST_BYTES]
    return short.decode(errors="ignore").strip(".-_")

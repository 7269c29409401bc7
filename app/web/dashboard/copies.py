"""A job as a person would ask for it elsewhere: in a shell, in Python, on the command line."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from app.domain.deployments import with_defaults
from app.domain.request_parts import Objective
from app.web.dashboard.visitor import Visitor

_OPTIONS = {"seed": "--seed", "target": "--target", "name": "--name"}
"""Parts of a request that are an option of the command line each."""

_IN_ONE_COMMAND = frozenset(
    {"model", "dataset", "data", "steps", "objective", "require", "tags", *_OPTIONS}
)
"""The parts of a request that the command line says too."""

_KEY = "# PLANISH_API_KEY is set to a key of yours.\n"


def of(
    visitor: Visitor, body: Mapping[str, Any], model: str | None, dataset: str | None
) -> dict[str, str]:
    """Return the same job for other ways to ask, by the way's name.

    Args:
        visitor: who copies it.
        body: the request.
        model: the name of the model's file, where it is known.
        dataset: the name of the data's file, where there are data and it is known.
    """
    key = _KEY if visitor.needs_key else ""
    return {
        "curl": key + _curl(visitor, body),
        "Python": key + _python(visitor, body),
        "Command line": key + _command(visitor, body, model or "model.onnx", dataset or "data.npz"),
    }


def _curl(visitor: Visitor, body: Mapping[str, Any]) -> str:
    words = ["curl -sSf \"$PLANISH_URL/v1/jobs\" -H 'Content-Type: application/json'"]
    if visitor.needs_key:
        words += ['-H "Authorization: Bearer $PLANISH_API_KEY"']
    words += [f"-d {shlex.quote(json.dumps(body))}"]
    return f"PLANISH_URL={shlex.quote(visitor.address)}\n" + " \\\n  ".join(words)


def _python(visitor: Visitor, body: Mapping[str, Any]) -> str:
    arguments = [f"{name}={value!r}" for name, value in body.items() if name != "model"]
    lines = [
        f"job = client.jobs.create({', '.join([repr(body['model']), *arguments])})",
        "print(job.wait().verdict)",
        *_downloads(_formats(body)),
    ]
    inside = "".join(f"\n    {line}" for line in lines)
    return f"from planish import Client\n\nwith Client({visitor.address!r}) as client:{inside}"


def _downloads(formats: list[str]) -> list[str]:
    if formats == ["onnx"]:
        return ['job.download("smaller.onnx")']
    return [f'print(job.download(".", format={name!r}))' for name in formats]


def _formats(body: Mapping[str, Any]) -> list[str]:
    """Return the formats that a job delivers."""
    delivered = with_defaults(body).get("deliver")
    return delivered if isinstance(delivered, list) else ["onnx"]


def _command(visitor: Visitor, body: Mapping[str, Any], model: str, dataset: str) -> str:
    words = ["planish", "compress", model, *_work(body, dataset), *_about(body)]
    command = shlex.join([*words, "--url", visitor.address])
    beyond = ", ".join(_beyond(body))
    return f"# The command has no option for {beyond}.\n{command}" if beyond else command


def _work(body: Mapping[str, Any], dataset: str) -> Iterator[str]:
    """Yield the words that say what is done, and on which data."""
    if "dataset" in body:
        yield from ("--data", dataset)
    if "data" in body:
        yield "--generated-data"
    for step in body.get("steps", ()):
        alone = set(step) == {"method"}
        yield from ("--step", step["method"] if alone else json.dumps(step))
    objective = body.get("objective", {})
    if objective:
        yield from ("--minimize", objective["minimize"])
    for name in ("trials", "minutes"):
        if name in objective.get("budget", {}):
            yield from (f"--{name}", str(objective["budget"][name]))


def _about(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words for the rest of a request, and for the file that is left."""
    if bounds := [*_bounds(body)]:
        yield from ("--max-drop", _share(min(bounds)))
    for name, option in _OPTIONS.items():
        if name in body:
            yield from (option, str(body[name]))
    for tag in body.get("tags", ()):
        yield from ("--tag", tag)
    if _formats(body) == ["onnx"]:
        yield from ("-o", "smaller.onnx")


def _share(value: float) -> str:
    """Return a share as the command line reads it, which takes more than all in percent alone."""
    return str(value) if value <= 1 else f"{100 * value:.10g}%"


def _bounds(body: Mapping[str, Any]) -> Iterator[float]:
    """Yield the losses of quality that a request allows; the least of them counts."""
    for part in (body, body.get("objective", {})):
        for name in ("require", "subject_to"):
            drop = part.get(name, {}).get("max_quality_drop")
            if drop is not None:
                yield drop


def _beyond(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the command leaves out of a request."""
    yield from (f"'{name}'" for name in body if name not in _IN_ONE_COMMAND)
    if body.get("steps") == []:
        yield "a job without steps"
    objective = body.get("objective", {})
    usual = Objective.model_fields["strategy"].default
    if objective.get("strategy", usual) != usual:
        yield "'strategy'"
    if "at_once" in objective.get("budget", {}):
        yield "'at_once'"

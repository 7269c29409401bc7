"""A job as a person would ask for it elsewhere: in a shell, in Python, on the command line."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from app.domain.deployments import with_defaults
from app.web.dashboard.visitor import Visitor

_IN_ONE_COMMAND = frozenset(
    {"model", "dataset", "data", "steps", "require", "seed", "target", "name", "tags"}
)
"""The parts of a request that the command line says too, or that change nothing of the result."""

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
    steps = body["steps"]
    options = {name: value for name, value in body.items() if name not in {"model", "steps"}}
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    lines = [
        f"job = client.jobs.create({body['model']!r}, {steps!r}{arguments})",
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
    words = ["planish", "compress", model]
    if "dataset" in body:
        words += ["--data", dataset]
    if "data" in body:
        words += ["--generated-data"]
    for step in body["steps"]:
        alone = set(step) == {"method"}
        words += ["--step", step["method"] if alone else json.dumps(step)]
    if "require" in body:
        words += ["--max-drop", str(body["require"]["max_quality_drop"])]
    if "seed" in body:
        words += ["--seed", str(body["seed"])]
    if "target" in body:
        words += ["--target", body["target"]]
    if _formats(body) == ["onnx"]:
        words += ["-o", "smaller.onnx"]
    words += ["--url", visitor.address]
    beyond = [f"'{name}'" for name in body if name not in _IN_ONE_COMMAND]
    if not beyond:
        return shlex.join(words)
    return f"# The command has no option for {', '.join(beyond)}.\n{shlex.join(words)}"

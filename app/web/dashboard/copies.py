"""A job as a person would ask for it elsewhere: in a shell, in Python, on the command line."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

_IN_ONE_COMMAND = frozenset(
    {"model", "dataset", "data", "steps", "require", "seed", "target", "name", "tags"}
)
"""The parts of a request that the command line says too, or that change nothing of the result."""


def of(body: Mapping[str, Any], model: str | None, dataset: str | None) -> dict[str, str]:
    """Return the same job for other ways to ask, by the way's name.

    Args:
        body: the request.
        model: the name of the model's file, where it is known.
        dataset: the name of the data's file, where there are data and it is known.
    """
    return {
        "curl": _curl(body),
        "Python": _python(body),
        "Command line": _command(body, model or "model.onnx", dataset or "data.npz"),
    }


def _curl(body: Mapping[str, Any]) -> str:
    call = "curl -sSf $PLANISH/v1/jobs -H 'Content-Type: application/json'"
    return f"{call} \\\n  -d {shlex.quote(json.dumps(body))}"


def _python(body: Mapping[str, Any]) -> str:
    steps = body["steps"]
    options = {name: value for name, value in body.items() if name not in {"model", "steps"}}
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    return (
        "from planish import Client\n\n"
        "with Client() as client:\n"
        f"    job = client.jobs.create({body['model']!r}, {steps!r}{arguments})\n"
        "    print(job.wait().verdict)\n"
        '    job.download("smaller.onnx")'
    )


def _command(body: Mapping[str, Any], model: str, dataset: str) -> str:
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
    else:
        words += ["-o", "smaller.onnx"]
    beyond = [f"'{name}'" for name in body if name not in _IN_ONE_COMMAND]
    if not beyond:
        return shlex.join(words)
    return f"# The command has no option for {', '.join(beyond)}.\n{shlex.join(words)}"

"""Engines that answer what is not so: entries for `tests.workers.lifecycle.test_engines`."""

import json
import os
from hashlib import sha256
from pathlib import Path

from app.domain.directory import ARTIFACTS, RESULT
from tests.e2e import engine

ARTIFACT = "model.onnx"
TOO_LONG = "".join(sha256(bytes([number])).hexdigest() for number in range(200))
"""Text that no index of the database takes."""


def answers_nothing(directory: Path) -> int:
    return 0


def answers_nonsense(directory: Path) -> int:
    (directory / RESULT).write_text("nonsense")
    return 0


def answers_without_a_report(directory: Path) -> int:
    (directory / RESULT).write_text("{}")
    return 0


def answers_with_a_link(directory: Path) -> int:
    (directory / RESULT).symlink_to("/proc/self/environ")
    return 0


def answers_with_a_pipe(directory: Path) -> int:
    os.mkfifo(directory / RESULT)
    return 0


def names_an_artifact_that_is_not_there(directory: Path) -> int:
    code = engine.main(directory)
    (directory / ARTIFACTS / ARTIFACT).unlink()
    return code


def names_a_link_as_artifact(directory: Path) -> int:
    code = names_an_artifact_that_is_not_there(directory)
    (directory / ARTIFACTS / ARTIFACT).symlink_to("/etc/passwd")
    return code


def names_a_file_elsewhere_as_artifact(directory: Path) -> int:
    code = engine.main(directory)
    result = directory / RESULT
    result.write_text(result.read_text().replace(ARTIFACT, f"../{ARTIFACT}"))
    return code


def boasts_of_steps(directory: Path) -> int:
    """Of its one step twice, of steps that nobody asked for, and of more time than there is."""
    code = engine.main(directory)
    result = directory / RESULT
    answer = json.loads(result.read_text())
    (honest,) = answer["report"]["step_reports"]
    lie = {**honest, "method": TOO_LONG, "seconds": 1e308}
    lies = [lie, *({**lie, "index": index} for index in (-1, 1, 2**70)), lie]
    answer["report"]["step_reports"] = lies
    result.write_text(json.dumps(answer))
    return code

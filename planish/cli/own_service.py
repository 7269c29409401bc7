"""The service that ``planish compress`` uses: a configured one, or one that is started for it."""

import contextlib
import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from planish._formats import require_name
from planish.cli.asking import tell
from planish.cli.deployment import Stop
from planish.cli.ending import end_as_interrupted
from planish.errors import refusal
from planish.types import Problem

_DELIVERED = ("onnx",)
"""The formats of a result where a request names none, and no target."""


@contextlib.contextmanager
def service(url: str | None, request: Mapping[str, Any], output: Path | None) -> Iterator[str]:
    """Hand out the address of a service.

    Args:
        url: of the configured one; None: one is started here, and stopped again.
        request: what it will be asked for, without its model. What a service of this version would
            refuse is said before one is started.
        output: where the result is to go.

    Raises:
        Invalid: the request is wrong.
        Misnamed: ``output`` is called as a format that would not be delivered.
        Stop: no service can be started.
    """
    if url is not None:
        if output is not None and "target" not in request:
            require_name(_DELIVERED, output)
        end_as_interrupted(signal.SIGTERM)  # without its terminal a job elsewhere goes on
        yield url
        return
    from planish import embedded

    try:
        from app.local.server import DidNotStart

        _require_possible(request, output)
    except ModuleNotFoundError as error:
        raise Stop(f"{error}. Name a service (--url), or: pip install 'planish[local]'") from None
    tell("Starting a service for this one job …")
    end_as_interrupted(signal.SIGTERM, signal.SIGHUP)
    try:
        with embedded.running() as address:
            yield address
    except DidNotStart as error:
        raise Stop(str(error)) from None


def _require_possible(request: Mapping[str, Any], output: Path | None) -> None:
    from pydantic import ValidationError

    from app.domain.deployments import DEPLOYMENTS
    from app.domain.jobs import JobRequest
    from app.domain.targets import OUTPUT_FORMATS
    from app.web import problems

    body = {"model": "", **request}
    try:
        asked = JobRequest.model_validate_json(json.dumps(body))
    except ValidationError as error:
        found = problems.unfit(error, body).details().model_dump()
        raise refusal(Problem.model_validate(found)) from None
    if asked.target is not None and asked.target not in DEPLOYMENTS:
        raise Stop(
            f"A service that is started here knows no target {asked.target!r}. Name one of"
            f" {', '.join((*DEPLOYMENTS, *OUTPUT_FORMATS))}."
        )
    if output is not None:
        require_name(asked.deliver, output)

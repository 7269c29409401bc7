"""What both clients make of an answer: problems, and how long to wait before asking again."""

import random
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import httpx
from pydantic import ValidationError

from planish.errors import Refused
from planish.types import Problem

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_LONGEST_REQUESTED_PAUSE_S = 60.0
"""A service that asks for more patience than this is not asked again; the caller is told."""
PATIENCE_S = 300.0
"""An outage that whoever waits for a job sits out: a restart, or an upgrade."""
SILENCE_S = 60.0
"""A stream of events has a comment every 15 seconds; after this long it is dead."""


_AWAY = frozenset({502, 503, 504})
"""Answers of a proxy in front of a service that is away, and of a service without its parts."""


def pauses(attempts: int, patience_s: float = 0.0) -> Iterator[float]:
    """Yield the seconds between ``attempts``: doubling, each with jitter.

    Args:
        attempts: how often something is tried.
        patience_s: for how long at least, however many attempts that takes.
    """
    until = time.monotonic() + patience_s
    for attempt in count():
        if attempt + 1 >= attempts and time.monotonic() >= until:
            return
        yield min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)


def is_passing(error: Refused) -> bool:
    """Whether the same request may be answered in a moment."""
    return _may_pass(error.problem)


def is_away(response: httpx.Response) -> bool:
    """Whether what answers is no service, or one that cannot work at the moment."""
    return response.status_code in _AWAY


def pause_before_retry(
    response: httpx.Response, problem: Problem, usual: float, *, sends_a_file: bool
) -> float | None:
    """Return how many seconds to wait before the same request; None: do not send it again.

    A used-up quota is not answered by sending a file again: 429 has to name a short wait.
    """
    if not _may_pass(problem):
        return None
    after = response.headers.get("Retry-After", "")
    if not after.isdigit():
        return None if sends_a_file and problem.status == 429 else usual
    return float(after) or usual if float(after) <= _LONGEST_REQUESTED_PAUSE_S else None


def words_of(error: Exception) -> str:
    """Return what an error says; some say nothing but what they are."""
    return str(error) or type(error).__name__


def problem_of(response: httpx.Response) -> Problem:
    """Read the problem; make one of what a proxy in between may have answered."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(
            type="about:blank",
            title=response.reason_phrase or "An error",
            status=response.status_code,
            detail=response.text[:500],
        )


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the parameters that are None."""
    return {name: value for name, value in params.items() if value is not None}


def _may_pass(problem: Problem) -> bool:
    return problem.status in {429, *_AWAY} or problem.type == "request-in-flight"

"""Waits with a deadline, in place of sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def eventually(look: Callable[[], Answer | None], seconds: float = 60, what: str = "it") -> Answer:
    """Look again and again until the answer is something; fail after ``seconds``."""
    until = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        assert time.monotonic() < until, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.02)

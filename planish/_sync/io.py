"""What differs between both clients; ``planish/_async/io.py`` says the same with ``async``."""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx

Http = httpx.Client

_P = ParamSpec("_P")
_R = TypeVar("_R")

sleep = time.sleep


def call(work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Do it here: whoever calls this client waits anyway."""
    return work(*args, **kwargs)

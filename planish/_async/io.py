"""What differs between both clients; ``planish/_sync/io.py`` says the same without ``async``."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
import httpx

Http = httpx.AsyncClient

_P = ParamSpec("_P")
_R = TypeVar("_R")

sleep = anyio.sleep


async def call(work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Do what blocks, such as reading a file, in a thread."""
    return await anyio.to_thread.run_sync(lambda: work(*args, **kwargs))

"""The threads that move the bytes of uploads on their way."""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

_THREADS = 64

_limiter = CapacityLimiter(_THREADS)


async def moving(
    action: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Answer:
    """Run an action that moves bytes in a thread that no other request waits for.

    A slow storage would otherwise hold the threads of all requests.
    """
    return await to_thread.run_sync(partial(action, *args, **kwargs), limiter=_limiter)

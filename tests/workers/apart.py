"""Runs a function of a test in a process of its own, which has no thread when it begins.

What forks may not do so in the process of the tests: libraries have started threads there.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar
from unittest import mock

from workers.sandbox.server import WITHOUT_THREADS

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def apart(
    function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Answer:
    """Return what a function of a module returns, or raise what it raises."""
    with (
        mock.patch.dict("os.environ", WITHOUT_THREADS),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        return pool.submit(function, *args, **kwargs).result()

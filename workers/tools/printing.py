"""What native code prints: the only place where some runtimes name the operator they refuse."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def printed(scratch: Path) -> Iterator[Callable[[], str]]:
    """Collect what native code writes to standard error; yield what reads it so far.

    Args:
        scratch: a directory in which a file may be made.
    """
    with tempfile.TemporaryFile(dir=scratch) as file:

        def read() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield read
        finally:
            os.dup2(before, 2)
            os.close(before)

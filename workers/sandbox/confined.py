"""The forked process: confines itself, runs the engine, and ends."""

import errno
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from app.domain.directory import LOG
from app.domain.workers import Confinement
from workers.sandbox import confinement
from workers.sandbox.confinement import namespaces
from workers.sandbox.confinement.kernel import PR_SET_PDEATHSIG, prctl
from workers.sandbox.limits import Limits

MEMORY_EXIT = 250
STORAGE_EXIT = 251

_STORAGE_ERRORS = frozenset({errno.EFBIG, errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Launch:
    """The entry to run, its directory, and its confinement."""

    entry: str
    """"module:function", a function from a directory to an exit code."""
    directory: Path
    limits: Limits
    plan: Confinement
    device: str
    threads: int | None


def keep(launch: Launch, pipe: int) -> NoReturn:
    """Run as the keeper: fork the confined process, wait for it, and end as it ended.

    Writes to ``pipe``, one JSON object a line: the ``pid`` of the confined process in this PID
    namespace, and then ``confined`` once it is confined, or the ``error``. The keeper is killed
    when its parent ends.
    """
    parent = os.getppid()
    try:
        if launch.plan.pid_namespace:
            namespaces.leave()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        first = os.fork()
        if first == 0:
            _run(launch, pipe)
        _say(pipe, {"pid": first})
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    except BaseException as error:  # noqa: BLE001 (this process must never go on as a server)
        _say(pipe, {"error": str(error)})
        os._exit(1)
    _, status = os.waitpid(first, 0)
    _end_like(os.waitstatus_to_exitcode(status))


def _run(launch: Launch, pipe: int) -> NoReturn:
    directory = launch.directory
    try:
        os.setsid()
        os.closerange(3, pipe)
        os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
        module, _, name = launch.entry.partition(":")
        function = getattr(importlib.import_module(module), name)
        temporary = directory / "tmp"
        temporary.mkdir(exist_ok=True)
        with suppress(OSError):
            # If the whole machine runs out of memory, the kernel kills this process first.
            Path("/proc/self/oom_score_adj").write_text("1000")
        cuda = launch.device != "cpu"
        confinement.confine(launch.plan, directory, launch.limits, cuda=cuda)
        _settle(directory, temporary, launch.threads)
        _say(pipe, {"confined": True})
        os.close(pipe)
    except BaseException as error:  # noqa: BLE001 (this process must never go on as a server)
        _say(pipe, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    code = 1
    try:
        code = int(function(directory))
    except BaseException as error:  # noqa: BLE001 (whatever it is, it ends here)
        traceback.print_exc()
        code = _code(error)
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _end_like(code: int) -> NoReturn:
    """End with the exit code, or by the signal, of the confined process."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _settle(directory: Path, temporary: Path, threads: int | None) -> None:
    """Use the directory as home, for the log and for temporary files."""
    os.chdir(directory)
    os.environ.update(HOME=str(directory), TMPDIR=str(temporary), USER="planish")
    tempfile.tempdir = None  # modules imported before the fork have chosen a directory already
    tempfile.tempdir = str(temporary)  # the fork server has chosen one already
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    log = os.open(LOG, flags, 0o644)
    nothing = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    torch = sys.modules.get("torch")
    if torch is not None and threads is not None:
        torch.set_num_threads(threads)


def _code(error: BaseException) -> int:
    """Return the exit code for an error: that of a passed limit, else 1."""
    if isinstance(error, MemoryError):
        return MEMORY_EXIT
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
        return STORAGE_EXIT
    return 1


def _say(pipe: int, words: dict[str, Any]) -> None:
    os.write(pipe, json.dumps(words).encode() + b"\n")

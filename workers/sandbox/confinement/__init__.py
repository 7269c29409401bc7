"""Confines a process: it writes one directory, reads its runtime, has no network.

A single-threaded process that has just been forked applies to itself, in this order:

1. namespaces: its own user, process table, host name, an empty network, and a file system that
   holds only the directory, the Python installation and a few system files;
2. no capabilities, and no new privileges ever;
3. Landlock: the same files again, by another mechanism; devices, pipes and links cannot be
   created;
4. limits on file size, open files, processes, processor time, memory;
5. a filter of system calls, the list of those that an engine needs: no socket that reaches
   another process, no programs, no access to other processes.

Where ``/proc`` cannot be mounted, as in containers, the process sees only its own directory of it.
Where the kernel does not allow namespaces, the filter forbids forks instead. `probe` tries out
what is possible; a run is confined by exactly that, or does not start.
"""

import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import app
import workers
from app.domain.workers import Confinement, Mode
from workers.sandbox.confinement import landlock, namespaces, seccomp
from workers.sandbox.confinement.kernel import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    drop_capabilities,
    prctl,
)
from workers.sandbox.limits import Limits

_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system")
_OWN_PROCESS = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/devices",
    "/proc/driver/nvidia", "/proc/driver/nvidia-uvm", "/proc/sys/vm/mmap_min_addr",
)  # fmt: skip
"""What is seen of /proc without a mount of its own; CUDA's driver reads the last four."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_OPEN_FILES = 1024
_STACK_BYTES = 8 << 20


def confine(plan: Confinement, directory: Path, limits: Limits, *, cuda: bool) -> None:
    """Confine this process for good; it must have one thread.

    Args:
        plan: the mechanisms to apply, as `probe` returned them. With namespaces in it, the
            process must be the first one forked after `namespaces.leave`.
        directory: the one directory to write, absolute and free of symbolic links.
        limits: the resource limits.
        cuda: whether the process uses a GPU.

    Raises:
        OSError: the kernel refused a part of the plan; the process must end.
    """
    readable, devices = _readable(cuda=cuda), _devices(cuda=cuda)
    writable = [*devices, *_threads(cuda=cuda)]
    if plan.pid_namespace:
        mount_proc = plan.mode == "namespaces"
        _enter(directory, readable, devices if mount_proc else writable, mount_proc=mount_proc)
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if plan.landlock_abi:
        processes = ("/proc",) if plan.pid_namespace else _OWN_PROCESS
        readable += [Path(name) for name in processes]
        landlock.restrict(plan.landlock_abi, directory, readable, writable)
    _limit(limits, count_processes=plan.user_namespace, count_memory=not cuda)
    if plan.seccomp:
        seccomp.install(may_fork=plan.pid_namespace, cuda=cuda)


def probe() -> tuple[Confinement, dict[str, str]]:
    """Try each mechanism in a throw-away process.

    Returns:
        The mechanisms that work here, and a reason for each that does not: "namespaces", "/proc"
        (a new mount), "landlock", "seccomp".
    """
    with tempfile.TemporaryDirectory(prefix="planish-probe-") as name:
        directory = Path(name).resolve()
        trials = {
            "/proc": lambda: _try_namespaces(directory, mount_proc=True),
            "namespaces": lambda: _try_namespaces(directory, mount_proc=False),
            "landlock": lambda: _try_landlock(directory),
            "seccomp": _try_seccomp,
        }
        missing = {name: reason for name, trial in trials.items() if (reason := _attempt(trial))}
    mode = _mode(missing)
    separate = mode != "filter"
    confinement = Confinement(
        mode=mode,
        user_namespace=separate,
        network_namespace=separate,
        pid_namespace=separate,
        landlock_abi=0 if "landlock" in missing else landlock.abi(),
        seccomp="seccomp" not in missing,
        memory="watched",
        uid=namespaces.NOBODY if separate and os.geteuid() == 0 else os.geteuid(),
    )
    return confinement, missing


def _mode(missing: dict[str, str]) -> Mode:
    """Return the strongest mode without the missing mechanisms; keep one reason per mode."""
    if "/proc" not in missing:
        missing.pop("namespaces", None)
        return "namespaces"
    if "namespaces" not in missing:
        return "namespaces-one-process"
    del missing["/proc"]
    return "filter"


def _attempt(trial: Callable[[], None]) -> str:
    """Run ``trial`` in a child process; return its error, or an empty string."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            trial()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the answer)
            os.write(writing, (str(error) or repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        reason = pipe.read()
    os.waitpid(child, 0)
    return reason


def _enter(directory: Path, readable: list[Path], devices: list[Path], *, mount_proc: bool) -> None:
    if not mount_proc:
        # ``/proc/self`` is a link to the directory of this process, so only that one is mounted.
        own_proc_files = [path for name in _OWN_PROCESS if (path := Path(name)).exists()]
        readable = [*readable, *own_proc_files]
    namespaces.enter(directory, readable, devices, mount_proc=mount_proc)


def _try_namespaces(directory: Path, *, mount_proc: bool) -> None:
    namespaces.leave()
    first = os.fork()
    if first:
        os.waitpid(first, 0)
    else:
        _enter(directory, _readable(cuda=False), _devices(cuda=False), mount_proc=mount_proc)
        if not mount_proc:
            Path("/proc/self/statm").read_text()


def _try_landlock(directory: Path) -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict(landlock.abi(), directory, (), ())
    with suppress(PermissionError):
        os.scandir("/").close()
        raise OSError("the kernel accepts the rules and does not keep them")


def _try_seccomp() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(may_fork=True)
    with suppress(PermissionError):
        socket.socket().close()
        raise OSError("the kernel accepts the filter and does not apply it")


def _readable(*, cuda: bool) -> list[Path]:
    """Return what Python, its packages and our own code need to be read, without overlaps."""
    packages = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    code = [directory for module in (app, workers) for directory in module.__path__]
    names = [*_SYSTEM, sys.prefix, sys.base_prefix, *packages, *code, *(["/sys"] if cuda else [])]
    named = [Path(name).absolute() for name in names]
    existing = {path for path in [*named, *(path.resolve() for path in named)] if path.exists()}
    return sorted(path for path in existing if existing.isdisjoint(path.parents))


def _threads(*, cuda: bool) -> list[Path]:
    """Return the files of this process's threads: CUDA's driver writes names of its threads."""
    return [Path("/proc/self/task")] if cuda else []


def _devices(*, cuda: bool) -> list[Path]:
    gpus = Path("/dev").glob("nvidia*") if cuda else ()
    candidates: Iterable[Path] = [*map(Path, _DEVICES), *gpus]
    return [path for path in candidates if path.exists()]


def _limit(limits: Limits, *, count_processes: bool, count_memory: bool) -> None:
    """Set the resource limits of the kernel.

    The kernel counts processes by user and user namespace; without a namespace of its own the
    count would include processes outside. Memory is not limited with CUDA, which reserves
    terabytes of address space.
    """
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_STACK: _STACK_BYTES,
    }
    if limits.cpu_seconds is not None:
        bounds[resource.RLIMIT_CPU] = limits.cpu_seconds
    if count_processes:
        bounds[resource.RLIMIT_NPROC] = limits.processes
    if count_memory:
        bounds[resource.RLIMIT_DATA] = _data_bytes() + limits.memory_bytes
    for kind, value in bounds.items():
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            value = min(value, most)  # noqa: PLW2901 (an ordinary user may not raise it)
        resource.setrlimit(kind, (value, value))


def _data_bytes() -> int:
    """Return the bytes of private data in the address space now."""
    pages = Path("/proc/self/statm").read_text().split()[5]
    return int(pages) * resource.getpagesize()

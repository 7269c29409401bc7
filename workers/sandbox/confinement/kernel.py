"""System calls that Python has no function for, with errno turned into ``OSError``."""

import ctypes
import os
import platform

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

_CAPABILITY_VERSION_3 = 0x2008_0522
_CAPSET = {"x86_64": 126, "aarch64": 91}


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def call(name: str, *arguments: int | bytes | None) -> int:
    """Call the C library's function ``name``; raise OSError where it fails."""
    return _checked(name, getattr(_libc, name)(*map(_argument, arguments)))


def syscall(name: str, number: int, *arguments: int | bytes | None) -> int:
    """Make system call ``number``, for which the C library may have no function yet."""
    return _checked(name, _libc.syscall(ctypes.c_long(number), *map(_argument, arguments)))


def _argument(value: int | bytes | None) -> ctypes.c_long | ctypes.c_char_p:
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value)


def prctl(option: int, value: int, pointer: bytes | None = None) -> None:
    """Set an attribute of this process."""
    call("prctl", option, value, pointer if pointer is not None else 0, 0, 0)


def drop_capabilities() -> None:
    """Give up every capability of this thread, for good once new privileges are forbidden."""
    header = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    syscall("capset", _CAPSET[platform.machine()], header, bytes(24))

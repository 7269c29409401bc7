"""A seccomp filter: allows the system calls of a list, and refuses all others.

The filter is a program for the classic BPF machine: it loads the architecture, the number or an
argument of the call, compares, and returns what to do.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Iterator

from workers.sandbox.confinement import calls
from workers.sandbox.confinement.kernel import PR_SET_PDEATHSIG, PR_SET_SECCOMP, prctl

_MODE_FILTER = 2
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_GREATER, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT = 0x15, 0x25, 0x35, 0x45
_ALLOW, _REFUSE, _KILL_PROCESS = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_NUMBER, _ARCHITECTURE, _ARGUMENTS, _ARGUMENT_BYTES = 0, 4, 16, 8

_AUDIT_ARCHITECTURE = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32_BIT = 0x4000_0000

_REFUSED_COMMANDS = {
    "fcntl": (1, {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15}),
    "ioctl": (1, {"FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902}),
    "prctl": (0, {"PR_SET_PDEATHSIG": PR_SET_PDEATHSIG}),
}
"""Commands that are refused, and the place of the argument that names them. They choose which
process gets the signals of a descriptor, and whether a process outlives its parent."""

_CLONE_ANY_NAMESPACE = 0x7E02_0000
_CLONE_THREAD = 0x0001_0000

_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET, _SOCK_TYPE_MASK = 1, 1, 5, 0xF


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _instruction(_RETURN, _REFUSE | number)


def _when(number: int, body: bytes) -> bytes:
    """Run ``body``, which must return, when the call is ``number``."""
    return _instruction(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _load(argument: int) -> bytes:
    """Load the lower half of an argument; the first one is 0."""
    return _instruction(_LOAD, _ARGUMENTS + _ARGUMENT_BYTES * argument)


def _first_argument_test(jump: int, value: int, if_true: int, if_false: int) -> bytes:
    """Return ``if_true`` if the first argument passes a test, else ``if_false``."""
    return (
        _load(0)
        + _instruction(jump, value, 0, 1)
        + _instruction(_RETURN, if_true)
        + _instruction(_RETURN, if_false)
    )


def _unless_argument(argument: int, values: Iterable[int]) -> bytes:
    """Allow the call unless an argument is one of ``values``."""
    code = _load(argument)
    for value in values:
        code += _instruction(_JUMP_EQUAL, value, 0, 1) + _refuse(errno.EPERM)
    return code + _instruction(_RETURN, _ALLOW)


def _only_sockets(kind: int) -> bytes:
    """Allow the call if it makes Unix sockets of one kind.

    Those of the kinds here are connected from the start, or only listened on. One for datagrams
    would reach any socket whose name is known, without a connection.
    """
    denied = _refuse(errno.EPERM)
    return (
        _load(0)
        + _instruction(_JUMP_EQUAL, _AF_UNIX, 1, 0)
        + denied
        + _load(1)
        + _instruction(_AND, _SOCK_TYPE_MASK)
        + _instruction(_JUMP_EQUAL, kind, 0, 1)
        + _instruction(_RETURN, _ALLOW)
        + denied
    )


def install(*, may_fork: bool, cuda: bool = False) -> None:
    """Install the filter in this process and its future children; it cannot be removed.

    Args:
        may_fork: whether new processes may be created. Without a PID namespace they must not be;
            then signals and limits may target this process only.
        cuda: whether to allow the calls that the CUDA driver needs.

    Raises:
        OSError: the kernel refused.
        KeyError: this architecture has no table here.
    """
    code = compiled(platform.machine(), may_fork=may_fork, cuda=cuda)
    program = _Program(len(code) // 8, code)
    prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.string_at(ctypes.byref(program), 16))


def compiled(machine: str, *, may_fork: bool, cuda: bool = False) -> bytes:
    """Return the filter as instructions of the BPF machine, eight bytes each.

    Args:
        machine: the architecture, ``x86_64`` or ``aarch64``.
        may_fork: as in ``install``.
        cuda: as in ``install``.

    Raises:
        KeyError: the architecture has no table here.
    """
    denied = _refuse(errno.EPERM)
    code = _instruction(_LOAD, _ARCHITECTURE)
    code += _instruction(_JUMP_EQUAL, _AUDIT_ARCHITECTURE[machine], 1, 0)
    code += _instruction(_RETURN, _KILL_PROCESS)
    code += _instruction(_LOAD, _NUMBER)
    code += _instruction(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1) + denied
    allowed = calls.ALLOWED[machine] | (calls.FOR_CUDA[machine] if cuda else {})
    for number, body in _in_part(machine, may_fork=may_fork, cuda=cuda):
        code += _when(number, body)
    for first, last in _ranges(allowed.values()):
        code += _instruction(_JUMP_GREATER_EQUAL, first, 0, 2)
        code += _instruction(_JUMP_GREATER, last, 1, 0) + _instruction(_RETURN, _ALLOW)
    # Of a call that is newer than the list a library must believe that the kernel has it not.
    code += _instruction(_JUMP_GREATER, calls.NEWEST, 0, 1) + _refuse(errno.ENOSYS)
    return code + denied


def _in_part(machine: str, *, may_fork: bool, cuda: bool) -> Iterator[tuple[int, bytes]]:
    """Yield the calls that are allowed in part, each with the code that decides."""
    refused, allowed = _REFUSE | errno.EPERM, calls.ALLOWED[machine]
    # The filter cannot read the flags of clone3, which lie in memory; the C library falls back on
    # clone.
    yield calls.CLONE3, _refuse(errno.ENOSYS)
    yield allowed["socketpair"], _only_sockets(_SOCK_STREAM)
    if cuda:
        yield calls.SOCKET[machine], _only_sockets(_SOCK_SEQPACKET)
    for name, (argument, commands) in _REFUSED_COMMANDS.items():
        yield allowed[name], _unless_argument(argument, commands.values())
    if may_fork:
        yield (
            allowed["clone"],
            _first_argument_test(_JUMP_ANY_BIT, _CLONE_ANY_NAMESPACE, refused, _ALLOW),
        )
        return
    yield allowed["clone"], _first_argument_test(_JUMP_ANY_BIT, _CLONE_THREAD, _ALLOW, refused)
    for name in calls.SIGNALS:
        yield allowed[name], _first_argument_test(_JUMP_EQUAL, os.getpid(), _ALLOW, refused)
    for name in calls.ON_A_PROCESS:
        yield allowed[name], _first_argument_test(_JUMP_EQUAL, 0, _ALLOW, refused)
    for name in (*calls.ON_A_USER, *calls.FORKS):
        if name in allowed:
            yield allowed[name], _refuse(errno.EPERM)


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of each row of numbers without a gap."""
    ordered = sorted(numbers)
    first = last = ordered[0]
    for number in ordered[1:]:
        if number > last + 1:
            yield first, last
            first = number
        last = number
    yield first, last

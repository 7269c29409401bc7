"""A seccomp filter: refuses the system calls that an engine never needs.

The filter is a program for the classic BPF machine: it loads the architecture, the number or an
argument of the call, compares, and returns what to do. Numbers are those of the kernel's headers.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable

from workers.sandbox.confinement.kernel import PR_SET_SECCOMP, prctl

_MODE_FILTER = 2
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AND = 0x54
_ALLOW, _REFUSE, _KILL_PROCESS = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_NUMBER, _ARCHITECTURE, _ARGUMENTS, _ARGUMENT_BYTES = 0, 4, 16, 8

_AUDIT_ARCHITECTURE = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32_BIT = 0x4000_0000

# Calls that have the same number on all architectures.
_NEW = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447,
}  # fmt: skip

_X86_64 = {
    "shmget": 29, "socket": 41, "sendmsg": 46, "execve": 59, "semget": 64, "msgget": 68,
    "symlink": 88,
    "ptrace": 101, "syslog": 103, "rt_sigqueueinfo": 129, "mknod": 133, "uselib": 134,
    "personality": 135, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159,
    "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
    "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172,
    "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "tkill": 200,
    "clock_settime": 227, "mq_open": 240, "kexec_load": 246, "add_key": 248, "request_key": 249,
    "keyctl": 250, "mknodat": 259, "symlinkat": 266, "unshare": 272, "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298, "fanotify_init": 300, "open_by_handle_at": 304, "clock_adjtime": 305,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "execveat": 322, "userfaultfd": 323,
    "sendmmsg": 307, "memfd_create": 319,
}  # fmt: skip

_AARCH64 = {
    "mknodat": 33, "symlinkat": 36, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51,
    "quotactl": 60, "acct": 89, "personality": 92, "unshare": 97, "kexec_load": 104,
    "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117,
    "tkill": 130, "rt_sigqueueinfo": 138, "reboot": 142, "sethostname": 161,
    "setdomainname": 162, "settimeofday": 170, "adjtimex": 171, "mq_open": 180, "msgget": 186,
    "semget": 190, "shmget": 194, "socket": 198, "sendmsg": 211, "add_key": 217, "request_key": 218,
    "keyctl": 219, "execve": 221, "swapon": 224, "swapoff": 225, "rt_tgsigqueueinfo": 240,
    "perf_event_open": 241, "fanotify_init": 262, "open_by_handle_at": 265, "clock_adjtime": 266,
    "setns": 268, "sendmmsg": 269, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
    "finit_module": 273, "memfd_create": 279, "bpf": 280, "execveat": 281, "userfaultfd": 282,
    "kexec_file_load": 294,
}  # fmt: skip

_REFUSED = {"x86_64": _X86_64, "aarch64": _AARCH64}
_CLONE3 = 435
_CLONE = {"x86_64": 56, "aarch64": 220}
_FORKS = {"x86_64": (57, 58), "aarch64": ()}
_SIGNALS = {"x86_64": (62, 234), "aarch64": (129, 131)}
_OWNERS = {
    "x86_64": {"fcntl": 72, "ioctl": 16},
    "aarch64": {"fcntl": 25, "ioctl": 29},
}
_SET_OWNER = {
    "fcntl": {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15},
    "ioctl": {"FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902},
}
"""Commands (the second argument) that choose which process gets the signals of a descriptor."""

# Calls whose first argument is the process that they affect; 0 is the caller.
_ON_A_PROCESS = {
    "x86_64": {
        "prlimit64": 302, "sched_setparam": 142, "sched_setscheduler": 144,
        "sched_setaffinity": 203, "sched_setattr": 314, "migrate_pages": 256, "move_pages": 279,
    },
    "aarch64": {
        "prlimit64": 261, "sched_setparam": 118, "sched_setscheduler": 119,
        "sched_setaffinity": 122, "sched_setattr": 274, "migrate_pages": 238, "move_pages": 239,
    },
}  # fmt: skip
_ON_A_USER = {
    "x86_64": {"setpriority": 141, "ioprio_set": 251},
    "aarch64": {"setpriority": 140, "ioprio_set": 30},
}
"""Calls that affect all processes of a user at once."""
_CLONE_ANY_NAMESPACE = 0x7E02_0000
_CLONE_THREAD = 0x0001_0000

# CUDA's driver shares memory through memfd_create. It fails to start (error 304) unless it may
# listen on an abstract socket (@cuda-uvmfd-...), on which other processes could ask for memory.
_NEEDED_FOR_CUDA = frozenset({"memfd_create", "socket"})
_AF_UNIX, _SOCK_SEQPACKET, _SOCK_TYPE_MASK = 1, 5, 0xF
_CONVERSATIONS = {"x86_64": (42, 43, 288), "aarch64": (203, 202, 242)}
"""The calls connect, accept and accept4."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int) -> bytes:
    return _instruction(_RETURN, _REFUSE | number)


def _when(number: int, body: bytes) -> bytes:
    """Run ``body``, which must return, when the call is ``number``."""
    return _instruction(_JUMP_EQUAL, number, 0, len(body) // 8) + body


def _argument_test(
    jump: int, value: int, if_true: int, if_false: int, *, argument: int = 0
) -> bytes:
    """Return ``if_true`` if the lower half of an argument passes a test, else ``if_false``."""
    return (
        _instruction(_LOAD, _ARGUMENTS + _ARGUMENT_BYTES * argument)
        + _instruction(jump, value, 0, 1)
        + _instruction(_RETURN, if_true)
        + _instruction(_RETURN, if_false)
    )


def _unless_second_argument(values: Iterable[int], refused: int) -> bytes:
    """Allow the call unless its second argument is one of ``values``."""
    code = _instruction(_LOAD, _ARGUMENTS + _ARGUMENT_BYTES)
    for value in values:
        code += _instruction(_JUMP_EQUAL, value, 0, 1) + _instruction(_RETURN, refused)
    return code + _instruction(_RETURN, _ALLOW)


def _listening(machine: str) -> bytes:
    """Allow sockets of the kind that CUDA listens on, and refuse to connect one to another."""
    denied = _refuse(errno.EPERM)
    kind = (
        _instruction(_LOAD, _ARGUMENTS)
        + _instruction(_JUMP_EQUAL, _AF_UNIX, 1, 0)
        + denied
        + _instruction(_LOAD, _ARGUMENTS + _ARGUMENT_BYTES)
        + _instruction(_AND, _SOCK_TYPE_MASK)
        + _instruction(_JUMP_EQUAL, _SOCK_SEQPACKET, 0, 1)
        + _instruction(_RETURN, _ALLOW)
        + denied
    )
    conversations = [_when(number, denied) for number in _CONVERSATIONS[machine]]
    return _when(_REFUSED[machine]["socket"], kind) + b"".join(conversations)


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
    code = _filter(platform.machine(), may_fork=may_fork, cuda=cuda)
    program = _Program(len(code) // 8, code)
    prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.string_at(ctypes.byref(program), 16))


def _filter(machine: str, *, may_fork: bool, cuda: bool) -> bytes:
    denied = _refuse(errno.EPERM)
    code = _instruction(_LOAD, _ARCHITECTURE)
    code += _instruction(_JUMP_EQUAL, _AUDIT_ARCHITECTURE[machine], 1, 0)
    code += _instruction(_RETURN, _KILL_PROCESS)
    code += _instruction(_LOAD, _NUMBER)
    code += _instruction(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1) + denied
    for name, number in (_NEW | _REFUSED[machine]).items():
        if not (cuda and name in _NEEDED_FOR_CUDA):
            code += _when(number, denied)
    # The filter cannot read the flags of clone3, which lie in memory; the C library falls back on
    # clone.
    code += _when(_CLONE3, _refuse(errno.ENOSYS))
    refused = _REFUSE | errno.EPERM
    code += _listening(machine) if cuda else b""
    for name, number in _OWNERS[machine].items():
        code += _when(number, _unless_second_argument(_SET_OWNER[name].values(), refused))
    if may_fork:
        flags = _argument_test(_JUMP_ANY_BIT, _CLONE_ANY_NAMESPACE, refused, _ALLOW)
        return code + _when(_CLONE[machine], flags) + _instruction(_RETURN, _ALLOW)
    threads = _argument_test(_JUMP_ANY_BIT, _CLONE_THREAD, _ALLOW, refused)
    code += _when(_CLONE[machine], threads)
    for number in _FORKS[machine]:
        code += _when(number, denied)
    only_itself = _argument_test(_JUMP_EQUAL, os.getpid(), _ALLOW, refused)
    for number in _SIGNALS[machine]:
        code += _when(number, only_itself)
    only_caller = _argument_test(_JUMP_EQUAL, 0, _ALLOW, refused)
    for number in _ON_A_PROCESS[machine].values():
        code += _when(number, only_caller)
    for number in _ON_A_USER[machine].values():
        code += _when(number, denied)
    return code + _instruction(_RETURN, _ALLOW)

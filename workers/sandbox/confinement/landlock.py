"""Restricts access to files by Landlock (https://docs.kernel.org/userspace-api/landlock)."""

import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from workers.sandbox.confinement.kernel import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

_FILE_RIGHTS_SINCE = {1: (1 << 13) - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
_NETWORK_SINCE, _BIND_AND_CONNECT_TCP = 4, 0b11
_SCOPES_SINCE, _ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11

_READ = _READ_FILE | _READ_DIR | _EXECUTE
# Devices, pipes, sockets and symbolic links cannot be created, so they cannot trick a reader.
_WRITABLE = (_READ & ~_EXECUTE) | (
    _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)
_DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV


def abi() -> int:
    """Return the kernel's Landlock version, 0 where it has none or it is switched off."""
    try:
        return syscall("landlock_create_ruleset", _CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(
    version: int, writable: Path, readable: Iterable[Path], devices: Iterable[Path]
) -> None:
    """Restrict this process: it may write ``writable``, read ``readable`` and use ``devices``.

    If the kernel supports it, TCP is forbidden too, and so are signals and abstract sockets to
    processes outside. New privileges are forbidden first, as Landlock requires.

    Args:
        version: what `abi` returned; at least 1.
        writable: the one directory that may be written.
        readable: files and directories; missing ones are skipped.
        devices: device files that may be opened for writing and controlled.

    Raises:
        OSError: the kernel refused.
    """
    handled = sum(rights for since, rights in _FILE_RIGHTS_SINCE.items() if version >= since)
    network = _BIND_AND_CONNECT_TCP if version >= _NETWORK_SINCE else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPES_SINCE else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)
    size = 8 if version < _NETWORK_SINCE else 16 if version < _SCOPES_SINCE else 24
    ruleset = syscall("landlock_create_ruleset", _CREATE_RULESET, attributes[:size], size, 0)
    try:
        _allow(ruleset, writable, _WRITABLE & handled)
        for path in readable:
            with suppress(FileNotFoundError):
                _allow(ruleset, path, _READ & handled)
        for path in devices:
            with suppress(FileNotFoundError):
                _allow(ruleset, path, _DEVICE & handled)
        syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= _ON_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        syscall("landlock_add_rule", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)

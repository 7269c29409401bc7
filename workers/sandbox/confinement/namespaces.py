"""Namespaces: a separate user, process table and file system, and an empty network.

Two processes take part, as a process never enters a new PID namespace itself: the *keeper* calls
`leave` and forks; its child, process 1 of the namespace, calls `enter`.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from workers.sandbox.confinement.kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_DUMPABLE,
    call,
    prctl,
    syscall,
)

NOBODY = 65534

_UNSHARED = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE_TREE, _RECURSIVE, _EMPTY_PATH, _MOVE_EMPTY_PATH = 0x1, 0x8000, 0x1000, 0x4
_AT_FDCWD = -100
_READ_ONLY, _NO_SET_UID, _NO_DEVICES = 0x1, 0x2, 0x4
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x4_0000
_MNT_DETACH = 2


def leave() -> None:
    """Unshare the namespaces; processes forked from now on are in the new PID namespace.

    Root becomes nobody only in `enter`, as it may mount without a user namespace.

    Raises:
        OSError: the kernel, or a policy on top of it, does not allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        call("unshare", _UNSHARED)
    else:
        call("unshare", CLONE_NEWUSER | _UNSHARED)
        _map_to_itself(uid, gid)


def enter(
    writable: Path, readable: Iterable[Path], devices: Iterable[Path], *, mount_proc: bool
) -> None:
    """Enter the namespaces: only the given paths are visible, the user has no rights.

    Args:
        writable: the directory that stays writable; its owner becomes nobody if root calls.
        readable: files and directories, visible read-only at the same paths.
        devices: device files, usable.
        mount_proc: whether ``/proc`` is mounted, for the new PID namespace. The kernel refuses
            that if parts of the present ``/proc`` are covered, as in containers. Without a mount,
            ``readable`` must name the needed parts of the present ``/proc``.

    Raises:
        OSError: the kernel does not allow it.
    """
    as_root = os.geteuid() == 0
    if as_root:
        _give_away(writable)
    _change_root(writable, readable, devices, mount_proc=mount_proc)
    call("sethostname", b"planish", 7)
    if as_root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        prctl(PR_SET_DUMPABLE, 1)
        call("unshare", CLONE_NEWUSER)
        _map_to_itself(NOBODY, NOBODY)


def _map_to_itself(uid: int, gid: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _give_away(directory: Path) -> None:
    os.chown(directory, NOBODY, NOBODY)
    for parent, directories, files in os.walk(directory):
        for name in directories + files:
            os.chown(Path(parent, name), NOBODY, NOBODY, follow_symlinks=False)


def _change_root(
    writable: Path, readable: Iterable[Path], devices: Iterable[Path], *, mount_proc: bool
) -> None:
    """Build a file system in memory, move into it and let go of the old one."""
    call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    trees = [(path, _tree(path, _READ_ONLY | _NO_SET_UID | _NO_DEVICES)) for path in readable]
    trees += [(path, _tree(path, _NO_SET_UID)) for path in devices]
    trees.append((writable, _tree(writable, _NO_SET_UID | _NO_DEVICES)))
    # Any directory can be the mount point of the new root. This one was opened above, so it stays
    # accessible.
    root = writable
    call("mount", b"tmpfs", bytes(root), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"size=4m,mode=755")
    for path, tree in trees:
        place = root / path.relative_to("/")
        _make_place(place, path)
        syscall("move_mount", _MOVE_MOUNT, tree, b"", _AT_FDCWD, bytes(place), _MOVE_EMPTY_PATH)
        os.close(tree)
    if mount_proc:
        processes = root / "proc"
        processes.mkdir()
        quiet = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        call("mount", b"proc", bytes(processes), b"proc", quiet, None)
    os.chdir(root)
    call("pivot_root", b".", b".")
    call("umount2", b".", _MNT_DETACH)
    os.chdir(writable)
    _set_attributes(_AT_FDCWD, b"/", _READ_ONLY)


def _tree(path: Path, attributes: int) -> int:
    """Return a detached copy of the mounts at ``path``."""
    flags = _CLONE_TREE | _RECURSIVE | os.O_CLOEXEC
    tree = syscall("open_tree", _OPEN_TREE, _AT_FDCWD, bytes(path), flags)
    _set_attributes(tree, b"", attributes, _EMPTY_PATH | _RECURSIVE)
    return tree


def _set_attributes(descriptor: int, path: bytes, attributes: int, flags: int = 0) -> None:
    request = struct.pack("=QQQQ", attributes, 0, 0, 0)
    syscall("mount_setattr", _MOUNT_SETATTR, descriptor, path, flags, request, len(request))


def _make_place(place: Path, original: Path) -> None:
    if original.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()

"""The situations in which workers are deployed, made by hand: containers without a runtime.

``python -m tests.containers PROFILE COMMAND…`` runs a command under a seccomp profile, through the
library that container runtimes use.
"""

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PROFILE = REPOSITORY / "deploy" / "seccomp.json"
ANY_UID = 48211
"""Of nobody on this machine: Kubernetes and OpenShift choose such ones."""

NAMESPACE_CALLS = frozenset({
    "unshare", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "mount_setattr",
    "sethostname",
})  # fmt: skip
"""What our profile allows and the default ones of container runtimes do not."""


@dataclass(frozen=True)
class Circumstance:
    """Where a worker runs, and how its runs can be kept apart there."""

    name: str
    mode: str
    masked: bool
    """Whether parts of /proc are covered."""
    forbidden: frozenset[str] = frozenset()
    """Calls that are taken out of our profile."""

    def __str__(self) -> str:
        return self.name

    def words(self, scratch: Path, writable: Sequence[Path] = ()) -> list[str]:
        """Return what to write before a command to have it run there.

        Args:
            scratch: a directory that is seen inside, for the profile.
            writable: directories that are seen inside and may be written.
        """
        tools = all(map(shutil.which, ("setpriv", "unshare", "pivot_root")))
        if os.geteuid() != 0 or not tools or find_library("seccomp") is None:
            pytest.skip("only root, with util-linux and libseccomp, can make a container by hand")
        profile = scratch / f"{self.name.replace(' ', '-')}.json"
        profile.write_text(json.dumps(without(json.loads(PROFILE.read_text()), self.forbidden)))
        code = {str(Path(entry).absolute()) for entry in sys.path if Path(entry).is_dir()}
        seen = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", sys.prefix, sys.base_prefix]
        read_only = sorted({*seen, *code, str(REPOSITORY)}, key=len)
        script = str(REPOSITORY / "tests" / "container.sh")
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", script]
        words += [str(ANY_UID), str(int(self.masked)), str(REPOSITORY)]
        words += [*filter(os.path.exists, read_only), "--"]
        words += [*map(str, (scratch, *writable)), "--"]
        return [*words, sys.executable, "-m", "tests.containers", str(profile)]


BARE = Circumstance("a machine", "namespaces", masked=False)
OURS = Circumstance("a container with our profile", "namespaces-one-process", masked=True)
DEFAULT = Circumstance("a container as it comes", "filter", masked=True, forbidden=NAMESPACE_CALLS)
CIRCUMSTANCES = (BARE, OURS, DEFAULT)


def without(profile: dict[str, object], names: frozenset[str]) -> dict[str, object]:
    """Return a profile that does not allow these calls."""
    groups = profile["syscalls"]
    assert isinstance(groups, list)
    left = [{**group, "names": [n for n in group["names"] if n not in names]} for group in groups]
    return {**profile, "syscalls": [group for group in left if group["names"]]}


# --- libseccomp: https://man7.org/linux/man-pages/man3/seccomp_rule_add.3.html -----------------

_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_FOREIGN = 2
_OPERATORS = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}


class _Argument(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def apply(profile: dict[str, object]) -> None:
    """Put a profile in the form of Docker's in force for this process, for good."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    context = ctypes.c_void_p(library.seccomp_init(_ERRNO | int(str(profile["defaultErrnoRet"]))))
    # Runtimes kill who calls in another architecture's way. Here it is refused, to be told of it.
    library.seccomp_attr_set(context, _FOREIGN, _ERRNO | errno.EPERM)
    groups = profile["syscalls"]
    assert isinstance(groups, list)
    for group in groups:
        allowed = group["action"] == "SCMP_ACT_ALLOW"
        action = _ALLOW if allowed else _ERRNO | group["errnoRet"]
        arguments = (_Argument * 6)(*map(_argument, group.get("args", [])))
        for name in group["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            count = len(group.get("args", []))
            if number >= 0 and (
                failed := library.seccomp_rule_add_array(context, action, number, count, arguments)
            ):
                raise OSError(-failed, f"{name}: {os.strerror(-failed)}")
    if failed := library.seccomp_load(context):
        raise OSError(-failed, os.strerror(-failed))


def _argument(words: dict[str, object]) -> _Argument:
    numbers = (int(str(words.get(name, 0))) for name in ("value", "valueTwo"))
    return _Argument(int(str(words["index"])), _OPERATORS[str(words["op"])], *numbers)


if __name__ == "__main__":
    apply(json.loads(Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])

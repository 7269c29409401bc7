"""What the filter of system calls answers, by a machine that runs it here for both architectures.

`tests.workers.test_confinement` tries the filter of this machine's own architecture on its kernel.
"""

import errno
import json
import os
import re
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.sandbox.confinement import calls, seccomp

X86_64, AARCH64, I386, ARM = 0xC000_003E, 0xC000_00B7, 0x4000_0003, 0x4000_0028
ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
PROFILE = Path(__file__).parents[2] / "deploy" / "seccomp.json"
ANSWERS = {
    0x7FFF_0000: "allowed",
    0x8000_0000: "killed",
    0x0005_0000 | errno.EPERM: "refused",
    0x0005_0000 | errno.ENOSYS: "unknown",
}
LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMPS: dict[int, Callable[[int, int], bool]] = {
    0x15: lambda found, value: found == value,
    0x25: lambda found, value: found > value,
    0x35: lambda found, value: found >= value,
    0x45: lambda found, value: bool(found & value),
}
THREAD = 0x0001_0000
NAMESPACES = [1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)]

both = pytest.mark.parametrize("machine", ARCHITECTURES)


class Filter:
    """A compiled filter, and what it answers."""

    def __init__(self, machine: str, *, may_fork: bool = True, cuda: bool = False) -> None:
        self.code = seccomp.compiled(machine, may_fork=may_fork, cuda=cuda)
        self.architecture = ARCHITECTURES[machine]
        self.numbers = calls.ALLOWED[machine] | calls.FOR_CUDA[machine]
        self.numbers |= {"socket": calls.SOCKET[machine]}

    def __call__(self, call: str | int, *arguments: int, by: int = 0) -> str:
        """Return the answer to a call, by name or number; ``by`` is the caller's architecture."""
        number = call if isinstance(call, int) else self.numbers[call]
        padded = [value & 0xFFFF_FFFF_FFFF_FFFF for value in (*arguments, *[0] * 6)][:6]
        data = struct.pack("=IIQ6Q", number, by or self.architecture, 0, *padded)
        at = held = 0
        while True:
            code, if_true, if_false, value = struct.unpack_from("=HBBI", self.code, 8 * at)
            at += 1
            if code == RETURN:
                return ANSWERS[value]
            if code == LOAD:
                (held,) = struct.unpack_from("=I", data, value)
            elif code == AND:
                held &= value
            else:
                at += if_true if JUMPS[code](held, value) else if_false


@both
def test_what_is_on_the_list_is_allowed_and_nothing_else(machine: str) -> None:
    answer, listed = Filter(machine), calls.ALLOWED[machine]
    in_part = {"socketpair"}
    assert {answer(name) for name in listed if name not in in_part} == {"allowed"}
    others = set(range(calls.NEWEST + 1)) - {*listed.values(), calls.CLONE3}
    assert {answer(number) for number in others} == {"refused"}
    newer = [calls.CLONE3, *range(calls.NEWEST + 1, calls.NEWEST + 100)]
    assert {answer(number) for number in newer} == {"unknown"}, "libraries do without these"


@both
def test_calls_of_another_table_are_never_allowed(machine: str) -> None:
    answer = Filter(machine)
    for architecture in {X86_64, AARCH64, I386, ARM} - {answer.architecture}:
        assert {answer(number, by=architecture) for number in range(calls.NEWEST)} == {"killed"}
    of_x32 = [0x4000_0000 | number for number in range(calls.NEWEST)]
    assert {answer(number) for number in (*of_x32, 0x7FFF_FFFF, 0xFFFF_FFFF)} == {"refused"}


@both
def test_sockets_are_pairs_and_cudas_own_kind(machine: str) -> None:
    answer, for_cuda = Filter(machine), Filter(machine, cuda=True)
    unix, closed = socket.AF_UNIX, socket.SOCK_CLOEXEC
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
    for each in (answer, for_cuda):
        pairs = [each("socketpair", unix, kind | closed) for kind in kinds]
        assert pairs == ["allowed", "refused", "refused", "refused"]
        assert each("socketpair", socket.AF_INET, socket.SOCK_STREAM) == "refused"
    assert {answer("socket", unix, kind) for kind in kinds} == {"refused"}
    made = [for_cuda("socket", unix, kind | closed) for kind in kinds]
    assert made == ["refused", "refused", "refused", "allowed"]
    assert for_cuda("socket", socket.AF_INET, socket.SOCK_SEQPACKET) == "refused"
    for name in calls.FOR_CUDA[machine]:
        assert (answer(name), for_cuda(name)) == ("refused", "allowed")


@both
@pytest.mark.parametrize("may_fork", [True, False])
def test_no_command_reaches_another_process_or_outlives_the_parent(
    machine: str, *, may_fork: bool
) -> None:
    answer = Filter(machine, may_fork=may_fork)
    assert {answer("fcntl", 3, command) for command in (8, 10, 15)} == {"refused"}
    assert {answer("ioctl", 3, command) for command in (0x8901, 0x8902)} == {"refused"}
    assert answer("prctl", 1, signal.SIGKILL) == answer("prctl", 1 | 1 << 32) == "refused"
    get_flags, terminal_size, set_name = 3, 0x5413, 15
    assert answer("fcntl", 8, get_flags) == answer("ioctl", 8, terminal_size) == "allowed"
    assert answer("prctl", set_name, 1) == "allowed"


@both
def test_forks_make_no_namespace(machine: str) -> None:
    answer = Filter(machine)
    assert answer("clone", signal.SIGCHLD) == answer("clone", THREAD) == "allowed"
    assert {answer("clone", flag | signal.SIGCHLD) for flag in NAMESPACES} == {"refused"}


@both
def test_without_namespaces_a_process_affects_itself_alone(machine: str) -> None:
    answer, own = Filter(machine, may_fork=False), os.getpid()
    assert answer("clone", signal.SIGCHLD) == "refused"
    assert answer("clone", THREAD) == "allowed"
    for name in calls.SIGNALS:
        assert answer(name, own, signal.SIGTERM) == "allowed"
        assert {answer(name, pid) for pid in (own + 1, 0, -1, -own)} == {"refused"}
    for name in calls.ON_A_PROCESS:
        assert (answer(name, 0), answer(name, own + 1)) == ("allowed", "refused")
    for name in {*calls.ON_A_USER, *calls.FORKS} & {*calls.ALLOWED[machine]}:
        assert answer(name, 0, 0) == "refused"


@both
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    numbers = {{"fstatat": "newfstatat"}.get(name, name): int(number) for name, number in found}
    ours = calls.ALLOWED[machine] | calls.FOR_CUDA[machine] | {"socket": calls.SOCKET[machine]}
    assert {name: numbers.get(name, number) for name, number in ours.items()} == ours
    assert len(set(ours.values())) == len(ours)
    all_names = set().union(*calls.ALLOWED.values())
    assert all_names & set(numbers) <= set(ours), "both architectures have the same calls"


@both
def test_a_container_allows_what_a_run_may_call(machine: str) -> None:
    allowed = {
        name for rule in json.loads(PROFILE.read_text())["syscalls"] for name in rule["names"]
    }
    assert set(calls.ALLOWED[machine] | calls.FOR_CUDA[machine]) <= allowed

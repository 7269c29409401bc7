"""What a hostile model would try from inside the engine process.

Each attack returns what it got. One that is refused raises OSError. They run in the sandbox, under
the circumstances of `tests.workers.circumstances`.
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from workers.sandbox.confinement import calls
from workers.sandbox.confinement.kernel import PR_SET_PDEATHSIG

PLAN = "plan.json"
OUTCOMES = "outcomes.json"

Plan = dict[str, Any]
"""worker: its pid. secret, other, socket: paths. abstract: a socket's name."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def read_the_password_file(plan: Plan) -> object:
    return Path("/etc/passwd").read_text()


def read_the_data_directory(plan: Plan) -> object:
    return Path(plan["secret"]).read_text()


def read_another_job(plan: Plan) -> object:
    return Path(plan["other"]).read_text()


def read_another_job_by_a_relative_path(plan: Plan) -> object:
    return Path("../other/model.onnx").read_text()


def list_the_jobs(plan: Plan) -> object:
    return _others(Path(plan["other"]).parents[1], but="mine")


def list_the_home_directory(plan: Plan) -> object:
    return list(Path("/root").glob(".ssh/*")) or _others(Path("/root"), but=".pyenv")


def list_temporary_files(plan: Plan) -> object:
    return _others(Path("/tmp"), but=Path(plan["secret"]).parts[2])


def _others(directory: Path, *, but: str) -> object:
    """List a directory; the way to our own job alone is not worth a secret."""
    names = {path.name for path in directory.iterdir()} - {but}
    if not names:
        raise FileNotFoundError(directory)
    return names


def follow_a_planted_symbolic_link(plan: Plan) -> object:
    return Path("planted").read_text()


def make_a_symbolic_link(plan: Plan) -> None:
    Path("link").symlink_to(plan["secret"])


def make_a_hard_link_to_a_secret(plan: Plan) -> None:
    Path("hard").hardlink_to(plan["secret"])


def make_a_hard_link_to_a_library(plan: Plan) -> None:
    Path("hard").hardlink_to(json.__file__)


def make_a_named_pipe(plan: Plan) -> None:
    os.mkfifo("pipe")


def make_a_device(plan: Plan) -> None:
    os.mknod("disk", 0o060600, os.makedev(8, 0))


def write_into_a_library(plan: Plan) -> object:
    return Path(json.__file__).with_name("planted.py").write_text("")


def write_beside_the_directory(plan: Plan) -> object:
    return Path("../planted").write_text("")


def write_to_temporary_files(plan: Plan) -> object:
    return Path("/tmp/planted-by-a-run").write_text("")


def read_the_workers_environment(plan: Plan) -> object:
    return Path(f"/proc/{plan['worker']}/environ").read_bytes()


def read_the_workers_memory(plan: Plan) -> object:
    return Path(f"/proc/{plan['worker']}/mem").open("rb")


def read_any_other_process(plan: Plan) -> object:
    """Through ``/proc`` as it is seen, where every process of the same user might be read."""
    own = os.getpid()
    try:
        listed = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}
    except PermissionError:
        listed = set()
    for pid in ({*range(1, 400), plan["worker"], os.getppid()} | listed) - {own, 0}:
        for name in ("mem", "environ", "cmdline", "maps", "root/etc", "fd/0"):
            with suppress(OSError):
                os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
                return pid, name
    raise FileNotFoundError


def leave_by_the_own_process(plan: Plan) -> object:
    """By the ways that ``/proc/self`` offers: its root, its parent directory, its threads'."""
    for way in ("root", "..", "cwd/../..", "task/1/root", "task/1/cwd/../.."):
        for name in ("etc/passwd", plan["secret"].lstrip("/"), f"{plan['worker']}/environ"):
            with suppress(OSError):
                return way, Path("/proc/self", way, name).read_bytes()
    raise FileNotFoundError


def write_to_the_own_process(plan: Plan) -> object:
    """Lower the chance of being chosen when memory runs out."""
    return Path("/proc/self/oom_score_adj").write_text("-1")


def find_a_secret_in_the_environment(plan: Plan) -> object:
    first = Path("/proc/self/environ").read_bytes()
    if "PLANISH_TEST_SECRET" not in os.environ and b"PLANISH_TEST_SECRET" not in first:
        raise FileNotFoundError
    return first


def find_an_inherited_descriptor(plan: Plan) -> object:
    listing = Path("/proc/self/fd")
    targets = [str(entry.readlink()) for entry in listing.iterdir() if entry.exists()]
    foreign = [t for t in targets if not t.startswith(("/proc/", "/dev/null", str(Path.cwd())))]
    if not foreign:
        raise FileNotFoundError
    return foreign


def connect_by_tcp(plan: Plan) -> object:
    return socket.create_connection(("127.0.0.1", plan["port"]), 2)


def connect_by_tcp_6(plan: Plan) -> object:
    return socket.socket(socket.AF_INET6, socket.SOCK_STREAM)


def send_a_datagram(plan: Plan) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 53))


def talk_to_the_kernels_network(plan: Plan) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


def resolve_a_name(plan: Plan) -> object:
    return socket.getaddrinfo("example.com", 443)


def connect_to_a_unix_socket(plan: Plan) -> None:
    socket.socket(socket.AF_UNIX).connect(plan["socket"])


def connect_to_an_abstract_socket(plan: Plan) -> None:
    socket.socket(socket.AF_UNIX).connect("\0" + plan["abstract"])


def signal_the_worker(plan: Plan) -> None:
    os.kill(plan["worker"], 0)


def signal_everybody(plan: Plan) -> None:
    os.kill(-1, signal.SIGURG)


def outlive_the_worker(plan: Plan) -> object:
    """Whoever is not killed with the fork server runs on, and nobody watches its limits."""
    return _call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0)


def limit_the_worker(plan: Plan) -> object:
    return resource.prlimit(plan["worker"], resource.RLIMIT_NOFILE)


def have_the_worker_signalled(plan: Plan) -> object:
    """By the kernel, about a pipe of ours."""
    reading, _ = os.pipe()
    return fcntl.fcntl(reading, fcntl.F_SETOWN, plan["worker"])


def have_the_worker_signalled_by_its_thread(plan: Plan) -> object:
    set_owner_ex, of_a_thread = 15, 0
    owner = struct.pack("ii", of_a_thread, plan["worker"])
    return fcntl.fcntl(os.pipe()[0], set_owner_ex, owner)


def have_the_worker_signalled_by_a_command(plan: Plan) -> object:
    set_owner = 0x8901
    return fcntl.ioctl(os.pipe()[0], set_owner, struct.pack("i", plan["worker"]))


def choose_the_signal(plan: Plan) -> object:
    return fcntl.fcntl(os.pipe()[0], fcntl.F_SETSIG, signal.SIGKILL)


def keep_the_worker_to_one_processor(plan: Plan) -> None:
    os.sched_setaffinity(plan["worker"], {0})


def make_the_worker_idle(plan: Plan) -> None:
    os.sched_setscheduler(plan["worker"], os.SCHED_IDLE, os.sched_param(0))


def slow_the_worker_down(plan: Plan) -> None:
    os.setpriority(os.PRIO_PROCESS, plan["worker"], 19)


def move_the_workers_memory(plan: Plan) -> object:
    return _by_number(256, 238, plan["worker"], 1, ctypes.byref(ctypes.c_ulong(1)), None)


def have_a_socket_that_needs_no_connection(plan: Plan) -> object:
    """It could send to every socket for datagrams whose path is known."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


_DEADLY = (335, 336)
"""On x86-64 uretprobe and uprobe: the kernel asks no filter, and kills who calls them."""


def call_what_is_not_on_the_list(plan: Plan) -> object:
    """Each other call is refused before the kernel looks at what it was given."""
    machine = platform.machine()
    named = calls.ALLOWED[machine] | calls.FOR_CUDA[machine]
    others = set(range(calls.NEWEST + 50)) - {*named.values(), calls.SOCKET[machine], *_DEADLY}
    reached = [number for number in others if _reaches(number)]
    if not reached:
        raise PermissionError(f"{len(others)} calls")
    return reached


def _reaches(number: int) -> bool:
    ctypes.set_errno(0)
    failed = _libc.syscall(number, 0, 0, 0, 0, 0, 0) == -1
    return not failed or ctypes.get_errno() not in {errno.EPERM, errno.ENOSYS}


def hide_a_file_in_a_socket(plan: Plan) -> object:
    ours, _ = socket.socketpair()
    return socket.send_fds(ours, [b"x"], [0])


def trace_the_worker(plan: Plan) -> object:
    attach = 16
    return _call("ptrace", attach, plan["worker"], None, None)


def read_the_workers_memory_by_a_call(plan: Plan) -> object:
    return _call("process_vm_readv", plan["worker"], None, 0, None, 0, 0)


def run_a_program(plan: Plan) -> object:
    return subprocess.run(["/usr/bin/env"], check=True)


def become_another_program(plan: Plan) -> object:
    return os.execv("/usr/bin/env", ["env"])


def make_a_user_namespace(plan: Plan) -> object:
    return _call("unshare", 0x1000_0000)


def join_a_namespace(plan: Plan) -> object:
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    return _call("setns", descriptor, 0)


def mount_something(plan: Plan) -> object:
    return _call("mount", b"tmpfs", str(Path.cwd()).encode(), b"tmpfs", 0, None)


def unmount_the_root(plan: Plan) -> object:
    return _call("umount2", b"/", 2)


def change_the_root(plan: Plan) -> object:
    return _call("chroot", b".")


def have_capabilities(plan: Plan) -> object:
    status = Path("/proc/self/status").read_text()
    sets = [line for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))]
    if all(int(line.split()[1], 16) == 0 for line in sets):
        raise PermissionError
    return sets


def lift_a_limit(plan: Plan) -> None:
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, endless)
    except ValueError as error:
        raise PermissionError from error


def _by_number(x86_64: int, aarch64: int, *arguments: object) -> int:
    number = {"x86_64": x86_64, "aarch64": aarch64}[platform.machine()]
    return _call("syscall", number, *arguments)


def use_io_uring(plan: Plan) -> object:
    return _by_number(425, 425, 8, ctypes.create_string_buffer(256))


def load_a_kernel_program(plan: Plan) -> object:
    return _by_number(321, 280, 0, ctypes.create_string_buffer(128), 128)


def use_the_keyring(plan: Plan) -> object:
    return _by_number(250, 219, 0, -3, 1)


def watch_the_processor(plan: Plan) -> object:
    return _by_number(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0)


def handle_page_faults(plan: Plan) -> object:
    return _by_number(323, 282, 1)


def hide_memory_in_a_file(plan: Plan) -> object:
    return os.memfd_create("hidden")


def share_memory_system_v(plan: Plan) -> object:
    return _by_number(29, 194, 0, 4096, 0o1600)


def clone_into_a_namespace(plan: Plan) -> object:
    return _by_number(56, 220, 0x1000_0000 | signal.SIGCHLD, None, None, None, None)


def use_the_other_call_table(plan: Plan) -> object:
    if platform.machine() != "x86_64":
        raise PermissionError
    return _call("syscall", 0x4000_0000 | 39)


ATTACKS = {
    name: attack
    for name, attack in list(globals().items())
    if callable(attack)
    and getattr(attack, "__module__", "") == __name__
    and not name.startswith("_")
}


def attempt_all(directory: Path) -> int:
    """Try every attack; say of each what it got, or how it was refused."""
    plan = json.loads((directory / PLAN).read_text())
    outcomes = {}
    for name, attack in ATTACKS.items():
        try:
            outcomes[name] = f"succeeded: {attack(plan)!r}"
        except OSError as error:
            outcomes[name] = f"refused: {error!r}"
    (directory / OUTCOMES).write_text(json.dumps(outcomes))
    return 0

"""What runs in the sandbox do in `tests.workers.test_sandbox`: entries, named by a test."""

import ctypes
import mmap
import os
import platform
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np


def _sleep() -> int:
    while True:
        time.sleep(1)


def _fork_and_sleep() -> int:
    child = os.fork()
    if child == 0:
        _sleep()
    return child


def write_a_file(directory: Path) -> int:
    print("said on standard output")
    (directory / "result").write_text(os.environ["TMPDIR"])
    return 7


def sleep(directory: Path) -> int:
    return _sleep()


def sleep_in_three_generations(directory: Path) -> int:
    # Where no namespace holds them, there are no children to sleep.
    with suppress(PermissionError):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _fork_and_sleep()
            _sleep()
    (directory / "ready").touch()
    return _sleep()


def fork_without_end(directory: Path) -> int:
    children = 0
    try:
        while True:
            _fork_and_sleep()
            children += 1
    except BlockingIOError:
        (directory / "children").write_text(str(children))
    return 0


def fork_once(directory: Path) -> int:
    try:
        _fork_and_sleep()
    except PermissionError:
        return 0
    return 1


def write_one_endless_file(directory: Path) -> int:
    with (directory / "endless").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def write_many_files(directory: Path) -> int:
    for number in range(1_000_000):
        (directory / f"{number}").write_bytes(bytes(1 << 20))
    return 0


def write_files_without_names(directory: Path) -> int:
    held = []
    for number in range(500):
        path = directory / f"{number}"
        file = path.open("wb")
        path.unlink()
        file.write(bytes(1 << 20))
        file.flush()
        held.append(file)
    return _sleep()


def map_files_without_names(directory: Path) -> int:
    held = []
    for number in range(500):
        path = directory / f"{number}"
        with path.open("w+b") as file:
            file.truncate(1 << 20)
            held.append(mmap.mmap(file.fileno(), 1 << 20))
        path.unlink()
        held[-1][:] = bytes(1 << 20)
    return _sleep()


def make_many_empty_files(directory: Path) -> int:
    for number in range(1_000_000):
        (directory / f"{number}").touch()
    return 0


def hoard_memory(directory: Path) -> int:
    hoard = []
    while True:
        hoard.append(np.ones(1 << 20))
        time.sleep(0.01)


def hoard_memory_in_children(directory: Path) -> int:
    for _ in range(3):
        if os.fork() == 0:
            hoard = np.ones(10 << 20)
            _sleep()
            del hoard
    return _sleep()


def ask_for_much_memory(directory: Path) -> int:
    return len(np.ones(1 << 32))


def compute_forever(directory: Path) -> int:
    while True:
        pass


def abort(directory: Path) -> int:
    os.abort()


def infer_and_multiply(directory: Path) -> int:
    import onnx
    import onnxruntime
    import torch

    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        multiply (float[256, 256] x) => (float[256, 256] y) { y = MatMul(x, x) }
    """)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    (by_onnxruntime,) = session.run(None, {"x": x})
    parameter = torch.from_numpy(x).requires_grad_()
    by_torch = parameter @ parameter
    by_torch.sum().backward()  # type: ignore[no-untyped-call]
    np.save(directory / "threads.npy", torch.get_num_threads())
    np.testing.assert_allclose(by_onnxruntime, by_torch.detach().numpy(), rtol=1e-3, atol=1e-3)
    return 0


def write_behind_a_first_thread_that_ended(directory: Path) -> int:
    """The process's own entry in ``/proc`` then shows neither its files nor its memory."""
    thread = threading.Thread(target=write_files_without_names, args=(directory,))
    thread.start()
    _end_this_thread()
    return 1


def hoard_behind_a_first_thread_that_ended(directory: Path) -> int:
    thread = threading.Thread(target=hoard_memory, args=(directory,))
    thread.start()
    _end_this_thread()
    return 1


def _end_this_thread() -> None:
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)


def start_as_cuda_does(directory: Path) -> int:
    """Share memory, name a thread, and listen on an abstract socket; none may be refused.

    libcuda 570 and later gives up with error 304 otherwise.
    """
    os.close(os.memfd_create("cuda"))
    Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("cuda-EvtHandlr")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(f"\0cuda-uvmfd-{os.getpid()}")
        listening.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            try:
                other.connect(listening.getsockname())
            except PermissionError:
                return 0
    return 2

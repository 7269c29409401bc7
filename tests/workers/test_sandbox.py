"""A run sees its directory, keeps its limits, and dies with whoever started it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.waiting import eventually
from workers.sandbox.limits import Exit, Limits
from workers.sandbox.server import Run, Sandbox, SandboxError

MEBIBYTE = 1 << 20
LIMITS = Limits(
    memory_bytes=600 * MEBIBYTE,
    cpu_seconds=None,
    file_bytes=8 * MEBIBYTE,
    directory_bytes=32 * MEBIBYTE,
    processes=40,
    wall_seconds=60,
)
SOON = 30.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(threads=2) as sandbox:
        yield sandbox


@pytest.fixture
def forking_sandbox(sandbox: Sandbox) -> Sandbox:
    if not sandbox.probe()["pid_namespace"]:
        pytest.skip("nothing can be forked where there are no namespaces")
    return sandbox


def start(sandbox: Sandbox, directory: Path, entry: str, limits: Limits = LIMITS) -> Run:
    return sandbox.start(directory, limits, entry=f"tests.workers.runs:{entry}")


def end(sandbox: Sandbox, directory: Path, entry: str, limits: Limits = LIMITS) -> Exit:
    ended = start(sandbox, directory, entry, limits).wait(SOON)
    assert ended is not None
    return ended


def tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def assert_all_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, SOON)
    assert not alive


def test_a_run_ends_with_its_code_and_leaves_its_files(sandbox: Sandbox, tmp_path: Path) -> None:
    ended = end(sandbox, tmp_path, "write_a_file")
    assert (ended.code, ended.signal, ended.reason) == (7, None, "exited")
    assert ended.cpu_seconds > 0
    assert ended.peak_memory_bytes > 0
    assert (tmp_path / "result").read_text() == str(tmp_path / "tmp")
    assert "said on standard output" in (tmp_path / "engine.log").read_text()


def test_a_run_may_follow_in_the_same_directory(sandbox: Sandbox, tmp_path: Path) -> None:
    assert end(sandbox, tmp_path, "write_a_file") is not None
    assert end(sandbox, tmp_path, "write_a_file").code == 7


def test_a_run_starts_with_everything_imported(sandbox: Sandbox, tmp_path: Path) -> None:
    """To import torch again takes a process two seconds; a fork takes a few hundredths."""
    assert min(end(sandbox, tmp_path, "write_a_file").cpu_seconds for _ in range(3)) < 0.5


def test_the_engines_libraries_compute_with_the_threads_asked_for(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    ended = end(sandbox, tmp_path, "infer_and_multiply")
    assert ended.code == 0, (tmp_path / "engine.log").read_text()
    assert np.load(tmp_path / "threads.npy") == 2


def test_a_crash_is_told_by_its_signal(sandbox: Sandbox, tmp_path: Path) -> None:
    ended = end(sandbox, tmp_path, "abort")
    assert ended.code is None
    # The first process of a PID namespace outlives its own SIGABRT; the C library then faults.
    assert ended.signal in {signal.SIGABRT, signal.SIGSEGV}
    assert ended.reason == "killed"


def test_an_entry_that_does_not_exist_is_an_error(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no_such_entry"):
        start(sandbox, tmp_path, "no_such_entry")


def test_an_unknown_requirement_starts_nothing(tmp_path: Path) -> None:
    with (
        Sandbox(preload=False, require=frozenset({"moat"})) as sandbox,
        pytest.raises(SandboxError, match="moat"),
    ):
        start(sandbox, tmp_path, "write_a_file")


def test_processes_are_bounded(forking_sandbox: Sandbox, tmp_path: Path) -> None:
    limits = replace(LIMITS, memory_bytes=64_000 * MEBIBYTE)
    assert end(forking_sandbox, tmp_path, "fork_without_end", limits).code == 0
    assert int((tmp_path / "children").read_text()) < LIMITS.processes


def test_a_file_is_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    assert end(sandbox, tmp_path, "write_one_endless_file").reason == "storage"
    assert (tmp_path / "endless").stat().st_size <= LIMITS.file_bytes


@pytest.mark.parametrize(
    "entry",
    [
        "write_many_files",
        "make_many_empty_files",
        "write_files_without_names",
        "map_files_without_names",
        "write_behind_a_first_thread_that_ended",
    ],
)
def test_a_directory_is_bounded(sandbox: Sandbox, tmp_path: Path, entry: str) -> None:
    assert end(sandbox, tmp_path, entry).reason == "storage"


@pytest.mark.parametrize(
    "entry",
    ["hoard_memory", "ask_for_much_memory", "hoard_behind_a_first_thread_that_ended"],
)
def test_memory_is_bounded(sandbox: Sandbox, tmp_path: Path, entry: str) -> None:
    ended = end(sandbox, tmp_path, entry)
    assert ended.reason == "memory"
    assert ended.peak_memory_bytes < 2 * LIMITS.memory_bytes


def test_memory_of_all_processes_is_bounded(forking_sandbox: Sandbox, tmp_path: Path) -> None:
    assert end(forking_sandbox, tmp_path, "hoard_memory_in_children").reason == "memory"


def test_wall_time_is_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    ended = end(sandbox, tmp_path, "sleep", replace(LIMITS, wall_seconds=0.2))
    assert ended.reason == "deadline"


def test_processor_time_is_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    ended = end(sandbox, tmp_path, "compute_forever", replace(LIMITS, cpu_seconds=1))
    assert ended.reason == "deadline"
    assert ended.cpu_seconds >= 0.8


def test_poll_does_not_wait(sandbox: Sandbox, tmp_path: Path) -> None:
    run = start(sandbox, tmp_path, "sleep")
    assert run.poll() is None
    assert run.wait(0.01) is None
    run.kill()
    assert run.poll() is not None


def test_kill_ends_every_generation(sandbox: Sandbox, tmp_path: Path) -> None:
    run = start(sandbox, tmp_path, "sleep_in_three_generations")
    eventually((tmp_path / "ready").exists, SOON)
    processes = tree(run.pid)
    ended = run.kill()
    assert (ended.signal, ended.reason) == (signal.SIGKILL, "killed")
    assert len(processes) > 1 or not sandbox.probe()["pid_namespace"]
    assert_all_gone(processes)
    assert run.kill() == ended


def test_runs_beside_each_other_end_on_their_own(sandbox: Sandbox, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    sleeping = start(sandbox, one, "sleep")
    assert end(sandbox, two, "write_a_file").code == 7
    assert sleeping.poll() is None
    sleeping.kill()


def test_a_dead_fork_server_ends_its_runs_and_is_replaced(tmp_path: Path) -> None:
    with Sandbox(preload=False) as sandbox:
        run = start(sandbox, tmp_path, "sleep_in_three_generations")
        eventually((tmp_path / "ready").exists, SOON)
        processes = tree(run.pid)
        keeper = processes[0].parent()
        assert keeper is not None
        server = keeper.parent()
        assert server is not None
        server.kill()
        ended = run.wait(SOON)
        assert ended is not None
        assert ended.reason == "killed"
        assert_all_gone([keeper, *processes])
        assert end(sandbox, tmp_path, "write_a_file").code == 7


STARTER = """
import sys, time
from pathlib import Path
from tests.workers.test_sandbox import LIMITS, start
from workers.sandbox.server import Sandbox
run = start(Sandbox(preload=False), Path(sys.argv[1]), "sleep_in_three_generations")
print(run.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_worker_leaves_nothing_running(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline()
            eventually((tmp_path / "ready").exists, SOON)
            processes = tree(worker.pid)[1:]
        finally:
            worker.kill()
        assert len(processes) >= 3
        assert_all_gone(processes)


def test_a_closed_sandbox_leaves_nothing_running(tmp_path: Path) -> None:
    with Sandbox(preload=False) as sandbox:
        run = start(sandbox, tmp_path, "sleep_in_three_generations")
        eventually((tmp_path / "ready").exists, SOON)
        processes = tree(run.pid)
    assert_all_gone(processes)
    ended = run.poll()
    assert ended is not None
    assert ended.reason == "killed"

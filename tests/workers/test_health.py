"""``planish worker --health``: what the processes of this machine last said of themselves."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from workers import health
from workers.health import Health
from workers.sandbox import directories


def said(queue: str, *, ago: float = 1, unable: str | None = None) -> Health:
    now = time.monotonic()
    return Health(
        worker="wrk_1",
        queue=queue,
        device="cpu",
        unable=unable,
        looked_at=now - ago,
        claimed_at=now - ago,
    )


@pytest.mark.parametrize(
    ("processes", "code", "words"),
    [
        ([partial(said, "jobs"), partial(said, "light")], 0, "jobs on cpu: well, last claim "),
        ([partial(said, "jobs")], 1, "light: no process has looked for work yet"),
        (
            [partial(said, "jobs", ago=500), partial(said, "light")],
            1,
            "jobs on cpu: has not looked for work for ",
        ),
        (
            [partial(said, "jobs", unable="no memory"), partial(said, "light")],
            1,
            "jobs on cpu: no memory",
        ),
        ([], 1, "jobs: no process has looked for work yet"),
    ],
    ids=["well", "one is missing", "hangs", "unable", "none"],
)
def test_a_container_is_healthy_while_its_processes_look_for_work_and_can_do_it(
    tmp_path: Path, processes: list[Callable[[], Health]], code: int, words: str
) -> None:
    with ExitStack() as living:
        for process in processes:
            root = living.enter_context(directories.process_directory(tmp_path))
            (root / health.FILE).write_text(process().model_dump_json())
        dead = tmp_path / "wrk_dead"
        dead.mkdir()
        dead.with_suffix(".lock").touch()
        (dead / health.FILE).write_text(said("light", ago=900).model_dump_json())
        done = subprocess.run(
            [sys.executable, "-m", "planish", "worker", "--health"],
            env={**os.environ, "WORKER_DIRECTORY": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout


def test_directories_of_the_dead_are_swept_away_and_those_of_the_living_stay(
    tmp_path: Path,
) -> None:
    with directories.process_directory(tmp_path) as living:
        dead = tmp_path / "wrk_dead"
        (dead / "deep").mkdir(parents=True)
        (dead / "deep").chmod(0)
        for name in ("wrk_dead.lock", "wrk_cut_off_before_its_directory.lock"):
            (tmp_path / name).touch()
        directories.sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == [living, living.with_suffix(".lock")]
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_removed_is_left_to_a_later_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as in_use:
        in_use.setattr(directories, "remove", lambda _: None)
        with directories.process_directory(tmp_path) as root:
            pass
        directories.sweep(tmp_path)
        assert root.is_dir()
    directories.sweep(tmp_path)
    assert not list(tmp_path.iterdir())

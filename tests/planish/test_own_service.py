"""``planish compress`` where no service is named: it starts one, which is gone afterwards."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from planish.cli.commands import CANCELLED
from planish.demo import text_lines
from tests.waiting import eventually

DIRECTIONS = text_lines.model_path().with_name("ch_ppocr_mobile_v2.0_cls_mobile.onnx")
"""A real network that reads in which direction a line of text goes."""


@contextmanager
def compressing(place: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Compress a real network in ``place`` by a service of the command's own.

    Temporary files are in ``place / "tmp"``.
    """
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 3, 48, 192)).astype(np.float32)
    np.savez(place / "data.npz", allow_pickle=False, x=images)
    (place / "tmp").mkdir()
    without = ("PLANISH_URL", "PLANISH_KEY", "PLANISH_API_KEY")
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    options = (str(DIRECTIONS), "--data", "data.npz", "-o", "small.onnx", *options)
    with subprocess.Popen(
        [sys.executable, "-m", "planish", "compress", *options],
        cwd=place,
        env={**inherited, "TMPDIR": str(place / "tmp"), "XDG_CONFIG_HOME": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_model_is_compressed_and_the_service_is_gone_afterwards(tmp_path: Path) -> None:
    with compressing(tmp_path, "--max-drop", "0.5", "--report", "report.html", "--json") as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    told: dict[str, Any] = json.loads(out)
    assert told["job"]["status"] == "succeeded"
    assert (tmp_path / "small.onnx").stat().st_size < DIRECTIONS.stat().st_size
    assert "<html" in (tmp_path / "report.html").read_text()
    assert not list((tmp_path / "tmp").glob("*/data"))


def test_what_is_terminated_cancels_its_job_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGTERM is what init systems and containers send, and whoever calls ``kill``."""
    with compressing(tmp_path, "--max-drop", "0.5", "--minimize", "size") as process:
        eventually(lambda: progress(process) > 0, 240, "the first trial of the search")
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        out, err = process.communicate(timeout=120)
    assert process.returncode == CANCELLED, out + err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []
    assert not list((tmp_path / "tmp").glob("*/data"))
    assert not (tmp_path / "small.onnx").exists()


def progress(process: subprocess.Popen[str]) -> float:
    """Return how far the job of a ``planish compress`` is in the service that it has started."""
    words = [word for child in psutil.Process(process.pid).children() for word in child.cmdline()]
    if "--port" not in words:
        return 0.0
    url = f"http://127.0.0.1:{words[words.index('--port') + 1]}/v1/jobs"
    try:
        jobs = httpx.get(url, timeout=5, trust_env=False).raise_for_status().json()["items"]
    except httpx.HTTPError:  # it does not answer yet
        return 0.0
    return max((job["progress"] for job in jobs), default=0.0)

"""Peak memory, measured in a process apart: an answer belongs to its request, or there is none."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.workers.apart import apart
from workers.compression.measure import memory

MIB = 1 << 20
SECONDS = 4
"""Within which a small graph is measured on a busy machine too."""


def graph(path: Path, repeat: int, turns: int = 0) -> Path:
    """Write a graph that spreads a value over ``repeat`` MiB, and does so ``turns`` times."""
    loop = """
        last, none = Loop (turns, , spread) <body = b (int64 i, bool c, float[n] v)
            => (bool d, float[m] w, float s) { d = Identity (c)
            w = Sin (v)
            s = ReduceSum <keepdims = 0> (v) }>
    """
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1] x) => (float y)
        <int64[1] shape = {{{repeat * MIB // 4}}}, int64 turns = {{{turns}}}> {{
            spread = Expand (x, shape)
            {loop if turns else "last = Identity (spread)"}
            y = ReduceSum <keepdims = 0> (last)
        }}
    """
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    path = tmp_path / "feeds.npz"
    np.savez(path, allow_pickle=False, x=np.ones(1, np.float32))
    return path


def peaks(paths: list[Path], feeds: Path, seconds: int = 60) -> list[int | None]:
    """Measure one graph after the other."""
    with memory.prober(seconds) as peak:
        assert peak is not None, "no thread runs yet"
        return [peak(path, feeds, 1) for path in paths]


def peaks_under_signals(paths: list[Path], feeds: Path, *signals: int) -> list[int | None]:
    """Measure graphs, each after a signal to the measuring process."""
    with memory.prober(SECONDS) as peak:
        assert peak is not None, "no thread runs yet"
        child = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
        found = []
        for path, number in zip(paths, signals, strict=True):
            os.kill(child, number)
            found.append(peak(path, feeds, 1))
        return found


def test_a_graph_that_needs_more_is_measured_as_more(tmp_path: Path, feeds: Path) -> None:
    small, large = (graph(tmp_path / f"{size}.onnx", size) for size in (1, 200))
    first, most, last = (peak or 0 for peak in apart(peaks, [small, large, small], feeds))
    assert most - first > 150 * MIB
    assert abs(last - first) < 50 * MIB


def test_what_cannot_be_run_has_no_figure_and_the_next_one_has(tmp_path: Path, feeds: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    none, some = apart(peaks, [broken, graph(tmp_path / "g.onnx", 1)], feeds)
    assert none is None
    assert some is not None


def test_a_graph_that_takes_too_long_spoils_no_other_s_figure(tmp_path: Path, feeds: Path) -> None:
    slow = graph(tmp_path / "slow.onnx", 64, turns=100_000)
    large = graph(tmp_path / "large.onnx", 200)
    none, most = apart(peaks, [slow, large], feeds, seconds=SECONDS)
    assert none is None
    assert (most or 0) > 150 * MIB


def test_a_late_answer_is_nobody_s(tmp_path: Path, feeds: Path) -> None:
    """The measuring process is stopped, is given up, and answers when it goes on."""
    small, large = (graph(tmp_path / f"{size}.onnx", size) for size in (1, 200))
    stop, go_on = signal.SIGSTOP, signal.SIGCONT
    none, most = apart(peaks_under_signals, [small, large], feeds, stop, go_on)
    assert none is None
    assert (most or 0) > 150 * MIB


def test_where_the_measuring_process_dies_there_is_no_figure(tmp_path: Path, feeds: Path) -> None:
    path = graph(tmp_path / "g.onnx", 1)
    kill, nothing = signal.SIGKILL, 0
    assert apart(peaks_under_signals, [path, path], feeds, kill, nothing) == [None, None]


def test_where_other_threads_run_nothing_is_forked() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    with memory.prober() as peak:
        assert peak is None
    ended.set()
    thread.join()

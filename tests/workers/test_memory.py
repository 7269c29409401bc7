"""Peak memory, measured in a process apart: an answer belongs to its request, or there is none."""

import os
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest

from workers.compression.measure import memory

MIB = 1 << 20


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


def test_a_graph_that_needs_more_is_measured_as_more(tmp_path: Path, feeds: Path) -> None:
    small, large = (graph(tmp_path / f"{size}.onnx", size) for size in (1, 200))
    with memory.prober() as peak:
        assert peak is not None
        peaks = [peak(path, feeds, 1) or 0 for path in (small, large, small)]
    assert peaks[1] - peaks[0] > 150 * MIB
    assert abs(peaks[2] - peaks[0]) < 50 * MIB


def test_what_cannot_be_run_has_no_figure_and_the_next_one_has(tmp_path: Path, feeds: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with memory.prober() as peak:
        assert peak is not None
        assert peak(broken, feeds, 1) is None
        assert peak(graph(tmp_path / "g.onnx", 1), feeds, 1) is not None


def test_a_graph_that_takes_too_long_spoils_no_other_s_figure(tmp_path: Path, feeds: Path) -> None:
    slow = graph(tmp_path / "slow.onnx", 64, turns=100_000)
    large = graph(tmp_path / "large.onnx", 200)
    with memory.prober(seconds=2) as peak:
        assert peak is not None
        assert peak(slow, feeds, 1) is None
        assert (peak(large, feeds, 1) or 0) > 150 * MIB


def test_a_late_answer_is_nobody_s(tmp_path: Path, feeds: Path) -> None:
    """The measuring process is stopped, is given up, and answers when it goes on."""
    small, large = (graph(tmp_path / f"{size}.onnx", size) for size in (1, 200))
    with memory.prober(seconds=2) as peak:
        assert peak is not None
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        child = int(children[-1])
        os.kill(child, signal.SIGSTOP)
        assert peak(small, feeds, 1) is None
        os.kill(child, signal.SIGCONT)
        assert (peak(large, feeds, 1) or 0) > 150 * MIB


def test_where_the_measuring_process_dies_there_is_no_figure(tmp_path: Path, feeds: Path) -> None:
    path = graph(tmp_path / "g.onnx", 1)
    with memory.prober() as peak:
        assert peak is not None
        child = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
        os.kill(child, signal.SIGKILL)
        assert peak(path, feeds, 1) is None
        assert peak(path, feeds, 1) is None

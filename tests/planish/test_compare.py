"""``planish compare``: two files beside each other."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.e2e.service import small_model
from tests.planish.conftest import Run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A network that takes pictures of any size."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        edges (float[N, 1, height, width] image) => (float[N, 1, h, w] y)
        <float[1, 1, 3, 3] k = {1.0, 2.0, 1.0, 0.0, 0.0, 0.0, -1.0, -2.0, -1.0}>
        { y = Conv(image, k) }
    """)
    path = tmp_path / "edges.onnx"
    onnx.save(model, path)
    return path


def test_two_files_are_compared_by_turns(
    run: Run,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    data = tmp_path / "data.npz"
    draw = np.random.default_rng(0)
    np.savez(data, allow_pickle=False, image=draw.standard_normal((8, 1, 24, 40), np.float32))
    bounds = ("--max-drop", "0", "--max-slowdown", "9")
    assert run("compare", pictures, pictures, "--data", data, *bounds) == 0
    shown = capsys.readouterr()
    assert "measuring size and latency" in shown.err, "who waits sees what for"
    table = shown.out
    assert table.count(f"{pictures.stat().st_size:,}") == 2
    assert "MACs, one sample of height = 24, width = 40" in table
    assert re.search(r"ms, one sample of height = 24, width = 40, \d+ thread", table)
    assert re.search("(kept|same answers).*100.0 %", table)


def test_a_file_that_is_worse_than_it_may_be_ends_with_a_code_of_its_own(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (tmp_path / f"{seed}.onnx" for seed in (0, 5))
    for seed, file in ((0, first), (5, second)):
        file.write_bytes(small_model(seed))
    assert run("compare", first, second, "--max-drop", "500%") == 0
    capsys.readouterr()
    assert run("compare", first, second, "--max-drop", "0.001", "--json") == 3
    shown = capsys.readouterr()
    assert re.search(r"answers are the same; the bound requires 99\.9 %\.", shown.err)
    assert "Nothing was changed" not in shown.err
    found = json.loads(shown.out)
    assert found["second"]["fidelity"]["explained"] < 0.999
    assert found["second"]["size_bytes"] == second.stat().st_size
    assert found["first"]["latency_ms"] > 0


def test_what_cannot_be_compared_is_named(
    run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("small.onnx", "flat.onnx", "none.onnx", "data.npz")
    other, flat, broken, data = (tmp_path / name for name in names)
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        flat (float[N, 3] image) => (float[N, 3] y) { y = Relu(image) }
    """)
    onnx.save(proto, flat)
    other.write_bytes(small_model())
    broken.write_bytes(b"no model")
    data.write_bytes(b"no data")
    for files, says in (
        ((pictures, other), "cannot be compared"),
        ((pictures, flat), "as 'image': float32[N, 1, height, width] and float32[N, 3]."),
        ((pictures, broken), f"{broken}: The file is text"),
        ((broken, pictures), f"{broken}: The file is text"),
        ((pictures, pictures, "--data", data), f"{data}: The file is text"),
    ):
        assert run("compare", *files) == 1
        assert says in capsys.readouterr().err

"""A worker's trial is a whole job: where it does not come to its end, the reason is said."""

from pathlib import Path

import onnx
import pytest

from app.settings import MIB, Engine
from workers import trial
from workers.sandbox.server import ENTRY, Sandbox

ENGINE = Engine(memory_bytes=2048 * MIB, directory_bytes=64 * MIB)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def test_the_network_is_the_one_that_the_comment_shows() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        trial (float[N, 4] x) => (float[N, 4] y)
        <float[4, 4] w = {1, 2, 3, 4, -1, -2, -3, -4, 4, 3, 2, 1, -4, -3, -2, -1}> {
            y = MatMul(x, w)
        }
    """
    assert onnx.parser.parse_model(text).SerializeToString() == trial.NETWORK


def test_where_jobs_can_be_done_nothing_is_lacking_and_nothing_is_left(directory: Path) -> None:
    with Sandbox(threads=1) as sandbox:
        assert trial.shortcoming(sandbox, directory, ENGINE, entry=ENTRY, threads=1) is None
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "engine", "said"),
    [
        ("tests.workers.runs:abort", ENGINE, "a small job died of signal "),
        ("tests.workers.runs:no_such_thing", ENGINE, "no attribute 'no_such_thing'"),
        (
            ENTRY,
            ENGINE.model_copy(update={"memory_bytes": 8 * MIB}),
            "a small job ran out of memory",
        ),
    ],
    ids=["dies", "does not start", "has too little memory"],
)
def test_where_they_cannot_the_reason_is_said(
    directory: Path, entry: str, engine: Engine, said: str
) -> None:
    with Sandbox(preload=False) as sandbox:
        lacking = trial.shortcoming(sandbox, directory, engine, entry=entry, threads=1)
    assert lacking is not None
    assert said in lacking


def test_a_confinement_that_is_required_and_missing_is_a_reason(directory: Path) -> None:
    with Sandbox(preload=False, require=frozenset({"magic"})) as sandbox:
        lacking = trial.shortcoming(sandbox, directory, ENGINE, entry=ENTRY, threads=1)
    assert lacking is not None
    assert "cannot confine runs by magic" in lacking

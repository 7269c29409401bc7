"""What the demonstration shows is what it says."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import pytest

from planish.demo import receiver, text_lines


def test_the_same_seed_draws_the_same_lines() -> None:
    first, again, other = (text_lines.draw(4, seed) for seed in (0, 0, 1))
    assert first.images.shape == (4, 3, 48, 320)
    assert np.array_equal(first.images, again.images)
    assert first.texts == again.texts
    assert first.texts != other.texts


def test_the_trained_model_reads_most_of_what_is_written() -> None:
    lines = text_lines.draw(8, seed=3)
    read = text_lines.read(text_lines.model_path(), lines.images)
    assert text_lines.share_read_correctly(read, lines.texts) > 0.9


@pytest.mark.parametrize(
    ("read", "share"), [("hello", 1.0), ("hallo", 0.8), ("hell", 0.8), ("helllo", 0.8), ("", 0.0)]
)
def test_a_missing_a_wrong_and_an_extra_character_are_one_error_each(
    read: str, share: float
) -> None:
    assert text_lines.share_read_correctly([read], ["hello"]) == pytest.approx(share)


def test_the_receiver_takes_no_message_with_a_bad_signature() -> None:
    with receiver.receiving() as hook:
        hook.secret = "whsec_" + "A" * 32
        assert not hook.take(b"{}", {"webhook-id": "1", "webhook-timestamp": "1"})
        with pytest.raises(TimeoutError, match="no signed webhook"):
            hook.wait(0.01)


def test_it_leaves_a_smaller_model_and_its_report_and_nothing_else(tmp_path: Path) -> None:
    output = tmp_path / "out"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "planish", "demo", "--output", str(output), "--lines", "64"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "TMPDIR": str(temporary), "COLUMNS": "120"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its signature is good" in done.stdout
    assert "times smaller" in done.stdout
    model = output / "text-reader-int8.onnx"
    assert model.stat().st_size < 0.3 * text_lines.model_path().stat().st_size
    onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    assert "<html" in (output / "report.html").read_text()
    assert not list(temporary.glob("*/data"))
    assert not [process for process in psutil.process_iter() if _started_with(process, temporary)]


def _started_with(process: psutil.Process, temporary: Path) -> bool:
    try:
        return bool(process.environ().get("TMPDIR") == str(temporary))
    except psutil.Error:
        return False

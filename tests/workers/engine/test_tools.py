"""A converter in a Python of its own is run in the engine's confinement, however it behaves."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from app.domain.directory import (
    ARTIFACTS,
    Result,
)
from app.domain.targets import TOOL_NAMES, TOOL_OF
from tests.workers.engine.conftest import Run
from workers.runs import tools
from workers.runs.hold import Cancelled, Hold
from workers.sandbox.directories import Place
from workers.sandbox.limits import Exit, Limits
from workers.sandbox.server import Sandbox
from workers.tools import environments

MIB = 1024**2
LIMITS = Limits(
    memory_bytes=1024 * MIB,
    cpu_seconds=None,
    file_bytes=64 * MIB,
    directory_bytes=64 * MIB,
    processes=64,
    wall_seconds=30.0,
)
CONVERTER = """
import os, pathlib, time
BEHAVIOUR = {behaviour!r}

class _Quantizer:
    def set_global(self, config):
        return self

def convert(module, arrays, quant_config=None):
    exec(BEHAVIOUR)
"""
BEHAVIOURS = {
    "hangs": ("time.sleep(1000)", "did not come to its end within 5 s"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "ended by signal 11"),
    "fills the disk": (
        "for i in range(100): pathlib.Path(str(i)).write_bytes(bytes(1 << 22)); time.sleep(0.05)",
        "wrote more than",
    ),
    "hoards memory": ("x = [b'1' * (1 << 26) for i in range(100)]; time.sleep(100)", "memory"),
}
ANSWERS = {
    "is garbled": ("pathlib.Path('delivery/litert/answer.json').write_text('{'); os._exit(0)"),
    "says nothing": "os._exit(0)",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own, which sees our packages and a converter that a test writes."""
    own = tmp_path_factory.mktemp("tools") / "litert"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    [packages] = own.glob("lib/*/site-packages")
    found = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "ours.pth").write_text("\n".join(found))
    for package, version in (("ai_edge_litert", "2.3.0"), ("tflite_micro", "0.1")):
        about = packages / f"{package}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")
    return own


@pytest.fixture
def sandbox(environment: Path) -> Sandbox:
    return Sandbox(preload=False, python=environment / "bin" / "python")


@pytest.fixture
def hold() -> Hold:
    return Hold(lambda: False, every=60, stopping=threading.Event(), seconds=600)


def behave(environment: Path, behaviour: str) -> None:
    [packages] = environment.glob("lib/*/site-packages")
    package = packages / "litert_torch"
    (package / "quantize").mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(CONVERTER.format(behaviour=behaviour))
    (package / "quantize" / "__init__.py").write_text("")
    quantizer = "from litert_torch import _Quantizer as PT2EQuantizer\n"
    quantizer += "def get_symmetric_quantization_config():\n    return None\n"
    (package / "quantize" / "pt2e_quantizer.py").write_text(quantizer)
    (package / "quantize" / "quant_config.py").write_text("def QuantConfig(**_):\n    return 1\n")


@pytest.fixture
def asked(job: Run, tmp_path: Path) -> Callable[[], Result]:
    """A job that waits for its tool; each call runs the engine on its directory."""
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[N, 8] x) => (float[N, 8] y) { y = MatMul(x, w) }
    """
    model = ir.from_onnx_text(text, initializers=[ir.tensor(weights, name="w")])
    path = tmp_path / "model.onnx"
    ir.save(model, path)

    def run(**order: object) -> Result:
        step = {"method": "prune", "granularity": "unstructured"}
        return job(path, step, deliver=["onnx", "litert"], tools=["litert"], **order)

    return run


def place(tmp_path: Path) -> Place:
    spool = tmp_path / "spool"
    spool.mkdir(exist_ok=True)
    return Place(tmp_path / "job", spool)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_tool_that_misbehaves_is_ended_and_costs_its_format_alone(
    environment: Path, sandbox: Sandbox, hold: Hold, asked: Callable[..., Result],
    tmp_path: Path, name: str,
) -> None:  # fmt: skip
    behaviour, words = BEHAVIOURS[name]
    behave(environment, behaviour)
    assert asked().tools == ["litert"]
    ends: list[Exit] = []
    seconds = 5.0 if name == "hangs" else 60.0
    limits = Limits(**{**vars(LIMITS), "wall_seconds": seconds})
    with sandbox:
        failure = tools.run(
            sandbox, "litert", place(tmp_path), hold, limits, lambda end, _: ends.append(end)
        )
    assert failure is not None
    assert words in failure
    assert len(ends) == 1
    result = asked(tool_failures={"litert": failure})
    assert result.problem is not None
    assert result.problem.type == "delivery-failed"
    assert words in result.problem.detail
    assert [each.format for each in result.artifacts] == ["onnx"]


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_cannot_be_used_costs_its_format_alone(
    environment: Path, sandbox: Sandbox, hold: Hold, asked: Callable[..., Result],
    tmp_path: Path, name: str,
) -> None:  # fmt: skip
    behave(environment, ANSWERS[name])
    asked()
    with sandbox:
        failure = tools.run(
            sandbox, "litert", place(tmp_path), hold, LIMITS, lambda _end, _seconds: None
        )
    assert failure is None
    result = asked()
    if name == "says nothing":
        assert result.tools == ["litert"], "a worker asks once, and calls that no answer"
        return
    assert result.problem is not None
    assert "cannot be read" in result.problem.detail


def test_until_tools_have_run_no_other_format_is_made(
    asked: Callable[..., Result], tmp_path: Path
) -> None:
    assert asked().tools == ["litert"]
    assert list((tmp_path / "job" / ARTIFACTS).iterdir()) == []
    result = asked(tool_failures={"litert": "It is not here."})
    assert [each.format for each in result.artifacts] == ["onnx"]


def test_what_a_converter_raises_is_its_refusal(
    environment: Path, sandbox: Sandbox, hold: Hold, asked: Callable[..., Result], tmp_path: Path
) -> None:
    behave(environment, "raise ValueError('no kernel for aten.frobnicate')")
    asked()
    with sandbox:
        tools.run(sandbox, "litert", place(tmp_path), hold, LIMITS, lambda _end, _seconds: None)
    result = asked()
    assert result.problem is not None
    assert "aten.frobnicate" in result.problem.detail
    assert not (tmp_path / "job" / ARTIFACTS / "model.tflite").exists()


def test_a_job_that_is_cancelled_ends_its_tool(
    environment: Path, sandbox: Sandbox, asked: Callable[..., Result], tmp_path: Path
) -> None:
    behave(environment, "time.sleep(1000)")
    asked()
    ends: list[Exit] = []
    cancelled = Hold(lambda: True, every=0.1, stopping=threading.Event(), seconds=600)
    with sandbox, cancelled, pytest.raises(Cancelled):
        tools.run(
            sandbox, "litert", place(tmp_path), cancelled, LIMITS, lambda end, _: ends.append(end)
        )
    assert [end.reason for end in ends] == ["killed"]


def test_an_environment_is_there_once_it_is_whole_and_of_these_pins(tmp_path: Path) -> None:
    assert environments.installed(tmp_path) == []
    (tmp_path / "litert" / "bin").mkdir(parents=True)
    assert environments.installed(tmp_path) == []
    (tmp_path / "litert" / "tool.json").write_text('"other==1\\n"')
    assert environments.installed(tmp_path) == []


def test_pins_agree_with_the_engine_s_on_what_files_pass_between() -> None:
    for tool in set(TOOL_NAMES) - environments.FILES_ALONE:
        pins = Path(environments.__file__).with_name(f"{tool}.txt").read_text().split()
        assert f"torch=={torch.__version__.partition('+')[0]}" in pins
        assert all("==" in pin for pin in pins)
    for name in TOOL_OF:
        assert environments.runtime_of(name)[1]

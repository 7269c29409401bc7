"""Files of other frameworks that run code when they are opened: it gets nowhere.

Each file here does run its code, in the confined process; what that wants outside is not to be had,
and the user is told of a file that cannot be used.
"""

import io
import json
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.domain.directory import ORDER, RESULT, UPLOAD, InspectModel, Result
from app.domain.models import INPUT_HINTS, ModelHints
from app.domain.problems import ProblemDetails
from app.domain.workers import Confinement
from tests.workers.intake.sources import test_keras
from workers.sandbox.limits import Limits
from workers.sandbox.server import Sandbox

GIB = 1 << 30
LIMITS = Limits(
    memory_bytes=2 * GIB,
    cpu_seconds=None,
    file_bytes=64 << 20,
    directory_bytes=256 << 20,
    processes=64,
    wall_seconds=120,
)
CODE = """
import os, socket
from pathlib import Path
got = []
def attempt(name, what):
    try:
        what()
        got.append(name)
    except BaseException:
        pass
attempt("write", lambda: Path({outside!r}).write_text("stolen"))
attempt("read", lambda: Path({secret!r}).read_text())
attempt("connect", lambda: socket.create_connection(("127.0.0.1", {port}), 1))
attempt("program", lambda: os.execv("/bin/true", ["true"]))
attempt("environment", lambda: [os.environ[n] for n in ("DATABASE_URL", "BROKER_URL")])
Path("got").write_text(repr(got))
"""
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own deprecations


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(threads=1) as sandbox:
        if not Confinement.model_validate(sandbox.probe()).whole:
            pytest.skip("such files are refused where the confinement is not whole")
        yield sandbox


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield server


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shift = nn.Linear(4, 2), torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x + self.shift)
        return y


class _Runs:
    """Runs its code where it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.code,)


def program(change: Callable[[str, bytes], bytes]) -> bytes:
    """Return a ``.pt2`` file whose members were changed, by their names."""
    file, changed = io.BytesIO(), io.BytesIO()
    dynamic = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(Net().eval(), (torch.zeros(2, 4),), dynamic_shapes=dynamic)
    torch.export.save(exported, file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(PurePosixPath(name).name, source.read(name)))
    return changed.getvalue()


def pickle_among_the_sample_inputs(code: str) -> bytes:
    packed = io.BytesIO()
    torch.save(_Runs(code), packed)
    return program(lambda name, data: packed.getvalue() if name == "model.pt" else data)


def pickle_in_place_of(what: str, member: str) -> Callable[[str], bytes]:
    """Return an attack whose pickles the archive itself says to be tensors."""

    def attack(code: str) -> bytes:
        packed = io.BytesIO()
        torch.save(_Runs(code), packed)

        def change(name: str, data: bytes) -> bytes:
            if name.endswith(f"{what}_config.json"):
                described = json.loads(data)
                assert described["config"], f"the program has no {what}"
                for payload in described["config"].values():
                    payload["use_pickle"] = True
                return json.dumps(described).encode()
            return packed.getvalue() if name.startswith(member) else data

        return program(change)

    return attack


def expression_in_the_graph(code: str) -> bytes:
    def change(name: str, data: bytes) -> bytes:
        if name != "model.json":
            return data
        text = f"__import__('builtins').exec({code!r})"
        described = json.loads(data)
        _replace(described, text)
        return json.dumps(described).encode()

    return program(change)


def _replace(value: Any, text: str) -> None:
    """Put an expression in the place of each one in a program's description."""
    if isinstance(value, dict):
        if "expr_str" in value:
            value["expr_str"] = text
        for each in value.values():
            _replace(each, text)
    elif isinstance(value, list):
        for each in value:
            _replace(each, text)


def inspect(sandbox: Sandbox, directory: Path, content: bytes, **hints: Any) -> ProblemDetails:
    """Have a file inspected in the sandbox; return the problem that the user is told."""
    directory.mkdir()
    (directory / UPLOAD).write_bytes(content)
    order = InspectModel(may_run_code=True, hints=ModelHints(**hints))
    (directory / ORDER).write_text(order.model_dump_json())
    ended = sandbox.start(directory, LIMITS).wait(120)
    assert ended is not None
    assert (ended.code, ended.reason) == (0, "exited")
    result = Result.model_validate_json((directory / RESULT).read_bytes())
    assert result.problem is not None
    return result.problem


@pytest.mark.parametrize(
    "attack",
    [
        pickle_among_the_sample_inputs,
        pickle_in_place_of("weights", "weight_"),
        pickle_in_place_of("constants", "tensor_"),
        expression_in_the_graph,
    ],
    ids=["sample inputs", "weights", "constants", "expression"],
)
def test_the_code_of_a_program_gets_nowhere(
    sandbox: Sandbox, tmp_path: Path, listener: socket.socket, attack: Callable[[str], bytes]
) -> None:
    secret, outside = tmp_path / "secret", tmp_path / "outside"
    secret.write_text("of another job")
    names = {"outside": str(outside), "secret": str(secret), "port": listener.getsockname()[1]}
    problem = inspect(sandbox, tmp_path / "job", attack(CODE.format(**names)))
    assert problem.type == "invalid-model"
    assert "torch.export.save" in problem.detail
    assert (tmp_path / "job" / "got").read_text() == "[]"
    assert not outside.exists()
    with pytest.raises(TimeoutError):
        listener.accept()


def test_a_script_that_maps_a_file_gets_none(sandbox: Sandbox, tmp_path: Path) -> None:
    class Maps(nn.Module):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.from_file(self.path, True, 4)

    packed = io.BytesIO()
    script: Callable[..., Any] = torch.jit.script
    torch.jit.save(script(Maps(str(tmp_path / "outside"))), packed)
    shape = INPUT_HINTS.validate_python([{"name": "x", "shape": ["batch", 4]}])
    problem = inspect(sandbox, tmp_path / "job", packed.getvalue(), inputs=shape)
    assert problem.type == "invalid-model"
    assert "does not run" in problem.detail
    assert not (tmp_path / "outside").exists()


def test_a_layer_of_a_million_million_units_ends_at_the_limit(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    config = test_keras.one_layer(**test_keras.stock("Dense", units=1 << 40))
    bomb = test_keras.archive(config, tmp_path / "model.keras").read_bytes()
    problem = inspect(sandbox, tmp_path / "job", bomb)
    assert problem.type == "memory-limit"

"""The agent of a board: it times real files, and goes on whatever happens to them."""

import signal
from pathlib import Path

import onnx
import pytest

from planish.agent import serve, timing
from planish.agent.heartbeat import Heartbeat
from planish.client import Client
from planish.types import Comparison, RegisteredDevice
from tests.app.boards import BOARD, TIMES, Json, agent, filed, measured
from tests.app.service import Service
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("timed_runs")

OF_AGENT: Json = {name: value for name, value in BOARD.items() if name != "name"}
NOON = "2026-01-01T12:00:00Z"


def network(width: int) -> bytes:
    """A network of one product, wide enough to be timed."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 20]>
        product (float[N, 16] x) => (float[N, M] y) <int64[2] shape = {{16, {width}}}> {{
            w = ConstantOfShape <value = float[1] {{1.0}}> (shape)
            y = MatMul (x, w)
        }}
    """)
    content: bytes = model.SerializeToString()
    return content


def test_an_agent_goes_on_after_what_it_times_was_deleted(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(order: timing.Order, _: Heartbeat) -> Comparison:
        assert order.candidate.read_bytes()
        assert service.http.delete(f"/v1/jobs/{job}").status_code == 204
        return Comparison.model_validate(TIMES)

    monkeypatch.setattr(timing, "apart", meanwhile)
    said: list[str] = []
    with Client(service.url, service.key) as client:
        device = client.devices.register("my-board", **OF_AGENT)
        job = filed(service)
        serve(client, device, tmp_path, said.append, most=1)
    assert "has no measurement" in said[-1]


def test_times_that_the_service_refuses_are_reported_as_a_problem(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = Comparison.model_validate({**TIMES, "speedup": 40.0, "speedup_high": 41.0})
    monkeypatch.setattr(timing, "apart", lambda *_: impossible)
    with Client(service.url, service.key) as client:
        device = client.devices.register("my-board", **OF_AGENT)
        job = filed(service)
        serve(client, device, tmp_path, print, most=1)
    [failed] = measured(service, job)
    assert failed["state"] == "failed"
    assert "does not follow from the times" in failed["problem"]


def test_an_agent_waits_for_a_service_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def tell(words: str) -> None:
        said.append(words)
        if len(said) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("planish.agent.POLL_SECONDS", 0.0)
    known = {"id": "dev_1", "token": "pld_1", "created_at": NOON, "seen_at": NOON, **BOARD}
    device = RegisteredDevice.model_validate(known)
    with (
        Client("http://127.0.0.1:9", "plk_1", attempts=1) as client,
        pytest.raises(KeyboardInterrupt),
    ):
        serve(client, device, tmp_path, tell)
    assert all("does not answer" in words for words in said)


def test_a_real_agent_times_real_files_and_another_goes_on_where_it_was_killed(
    service: Service,
) -> None:
    with agent(service.url, PLANISH_API_KEY=service.key) as first:
        eventually(lambda: service.http.get("/v1/devices").json()["items"], 60, "the device")
        model = service.model(network(4096))
        job = filed(service, model=model)
        eventually(lambda: measured(service, job)[0]["state"] != "queued", 60, "the claim")
        first.send_signal(signal.SIGKILL)
    assert measured(service, job)[0]["state"] in {"running", "measured"}
    with agent(service.url, "--tasks", "2", PLANISH_API_KEY=service.key) as second:
        broken = filed(service, model=service.model(b"no graph at all" * 10))
        if measured(service, job)[0]["state"] == "measured":
            filed(service, model=service.model(network(2048)))
        _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    [times] = measured(service, job)
    assert times["state"] == "measured"
    assert times["latency"]["original"]["runs"] >= 8
    assert times["threads"] == 1
    assert times["runtime"].startswith("onnxruntime ")
    [failed] = measured(service, broken)
    assert failed["state"] == "failed"
    assert "does not run on this device" in failed["problem"]

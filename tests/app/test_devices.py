"""Devices that time files: registered, given work, believed within bounds, replaced, waited for."""

from collections.abc import Iterator

import pytest
from sqlalchemy import update

from app.settings import Device as DeviceSettings
from app.settings import Settings
from app.store import devices, measurements
from app.store.session import connect, sessions
from app.store.tables import DeviceRow, JobRow, MeasurementRow
from tests.app.boards import (
    BOARD,
    RUN,
    SPREAD,
    TIMES,
    Json,
    ask,
    claim,
    claimed,
    filed,
    finding,
    measured,
    register,
    report,
)
from tests.app.people import browser, read, send
from tests.app.searching import end, search, shown, start, take_turn
from tests.app.service import Service, pointers
from tests.app.serving import emptied, serving_two, settings_with
from workers.search import asking

pytestmark = pytest.mark.usefixtures("timed_runs")


@pytest.fixture(scope="module")
def settings(
    shared_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return settings_with(shared_database, redis_url, tmp_path_factory.mktemp("storage").as_uri())


@pytest.fixture(scope="module")
def gateway(settings: Settings) -> Iterator[Service]:
    """A gateway for all tests of this module: none changes what it is started with."""
    engine = connect(settings.database)
    with serving_two(settings, sessions(engine)) as running:
        yield running
    engine.dispose()


@pytest.fixture
def service(gateway: Service) -> Iterator[Service]:
    yield gateway
    emptied(gateway.store)


def test_a_board_times_the_result_of_a_job(service: Service) -> None:
    device = register(service.http)
    assert "token" not in service.http.get(f"/v1/devices/{device['id']}").json()
    assert claim(service.http, device) is None
    job = filed(service)
    [waiting] = measured(service, job)
    assert (waiting["state"], waiting["device"], waiting["latency"]) == ("queued", "my-board", None)
    task = claimed(service, device)
    assert (task["job"], task["run"]) == (job, RUN)
    artifact = shown(service, job)["artifacts"][0]
    assert task["candidate"]["sha256"] == artifact["sha256"]
    for file in (task["original"], task["candidate"]):
        assert service.http.get(file["href"]).status_code == 200
    assert claim(service.http, device) is None, "it is leased"
    assert report(service, device, task).json()["state"] == "measured"
    [done] = measured(service, job)
    assert done["artifact"] == artifact["id"]
    assert done["latency"]["speedup"] == 4.0
    assert (done["machine"], done["threads"]) == ("a board", 4)
    assert service.http.delete(f"/v1/devices/{device['id']}").status_code == 204
    assert measured(service, job)[0]["latency"]["speedup"] == 4.0, "what was measured stays"


def test_a_claim_that_found_nothing_is_asked_again_with_its_key(service: Service) -> None:
    device = register(service.http)
    path = f"/v1/devices/{device['id']}/measurements/claim"
    headers = {"Planish-Device-Token": device["token"], "Idempotency-Key": "one"}
    assert service.http.post(path, headers=headers).json() == {"task": None}
    filed(service)
    task = service.http.post(path, headers=headers).json()["task"]
    assert task is not None
    again = service.http.post(path, headers=headers)
    assert (again.json()["task"], again.headers["Idempotent-Replay"]) == (task, "true")


def test_pages_show_devices_and_what_they_measured(service: Service) -> None:
    device = register(service.http, machine="<script>")
    job = filed(service)
    with browser(service) as person:
        assert "queued" in read(person.get(f"/jobs/{job}"))
        report(service, device, claimed(service, device))
        assert "4.00" in read(person.get(f"/jobs/{job}"))
        shown_page = person.get("/devices").text
        assert "my-board" in shown_page
        again = person.get("/jobs/new", params={"like": job}).text
        assert '<option value="my-board" selected>' in again, "the target of a job is not lost"
        assert "<bdi>&lt;script&gt;</bdi>" in shown_page
        assert send(person, f"/devices/{device['id']}/delete").status_code == 303
    assert service.http.get(f"/v1/devices/{device['id']}").status_code == 404


def test_another_tenant_sees_and_does_nothing(service: Service) -> None:
    device = register(service.http)
    job = filed(service)
    task = claimed(service, device)
    path = f"/v1/devices/{device['id']}"
    assert service.other.get(path).status_code == 404
    assert service.other.delete(path).status_code == 404
    assert service.other.get("/v1/devices").json()["items"] == []
    assert service.other.get(f"/v1/jobs/{job}/measurements").status_code == 404
    for call in ("claim", f"{task['id']}/renew", f"{task['id']}/report"):
        body = None if call == "claim" else finding(task)
        if call.endswith("renew"):
            body = {"token": task["token"]}
        assert ask(service.other, device, call, body).status_code == 404
    theirs = register(service.other)
    assert theirs["id"] != device["id"], "names are a tenant's own"
    assert claim(service.other, theirs) is None
    assert ask(service.other, theirs, f"{task['id']}/report", finding(task)).status_code == 404


def test_only_the_devices_own_agent_calls(service: Service) -> None:
    first = register(service.http)
    filed(service)
    task = claimed(service, first)
    forged = {**first, "token": "pld_guessed"}
    assert ask(service.http, forged, "claim").json()["type"] == "forbidden"
    second = register(service.http, threads=2)
    assert second["id"] == first["id"]
    assert report(service, first, task).status_code == 403, "a newer agent has its place"
    again = claimed(service, second)
    assert again["id"] == task["id"], "what the earlier one had claimed waits again"
    assert report(service, second, task).status_code == 409, "that was an earlier claim"
    assert report(service, second, again).status_code == 200


IMPOSSIBLE: list[tuple[Json, str]] = [
    ({"sha256": "0" * 64}, "#/sha256"),
    ({"sha256": "x"}, "#/sha256"),
    ({"latency": {**TIMES, "speedup": 40.0, "speedup_high": 41.0}}, "#/latency/speedup"),
    ({"latency": {**TIMES, "speedup_low": 5.0}}, "#/latency"),
    ({"latency": {**TIMES, "original": {**SPREAD, "median": -1}}}, "#/latency/original/median"),
    ({"latency": {**TIMES, "original": {**SPREAD, "p90": 1}}}, "#/latency/original"),
    ({"latency": {**TIMES, "more": "x"}}, "#/latency/more"),
    ({"latency": None, "problem": "x" * 501}, "#/problem"),
    ({"latency": None}, "#"),
    ({"token": "x"}, "#/token"),
]


def test_a_report_that_cannot_be_is_refused(service: Service) -> None:
    device = register(service.http)
    job = filed(service)
    task = claimed(service, device)
    for changes, pointer in IMPOSSIBLE:
        answer = report(service, device, task, **changes)
        assert (answer.status_code, pointers(answer)) == (422, [pointer]), answer.text
    assert measured(service, job)[0]["state"] == "running"


def test_what_a_dead_agent_claimed_is_given_out_again_and_not_for_ever(
    service: Service, settings: Settings
) -> None:
    device = register(service.http)
    job = filed(service)
    expired = update(MeasurementRow).values(lease_expires_at=MeasurementRow.created_at)
    for attempt in range(settings.device.attempts):
        task = claimed(service, device)
        assert ask(service.http, device, f"{task['id']}/renew", {"token": task["token"]}).is_success
        with service.store.begin() as session:
            session.execute(expired)
        if attempt:
            assert report(service, device, {**task, "token": task["token"] - 1}).status_code == 409
    assert claim(service.http, device) is None
    [given_up] = measured(service, job)
    assert given_up["state"] == "failed"
    assert "never reported" in given_up["problem"]


def test_devices_and_their_names_are_bounded(service: Service, settings: Settings) -> None:
    for name in ("cuda", "a b", "", "x" * 65):
        answer = service.http.post("/v1/devices", json={**BOARD, "name": name})
        assert (answer.status_code, pointers(answer)) == (422, ["#/name"])
    for number in range(settings.quota.devices):
        register(service.http, name=f"board-{number}")
    assert service.http.post("/v1/devices", json=BOARD).status_code == 429
    register(service.http, name="board-3")
    filled = {"model": service.model(), "steps": [{"method": "quantize"}], "target": "nowhere"}
    answer = service.http.post("/v1/jobs", json=filled)
    assert (answer.status_code, pointers(answer)) == (422, ["#/target"])
    assert "planish agent --target nowhere" in answer.json()["detail"]


def test_a_target_of_workers_is_required_of_them(service: Service) -> None:
    service.worker("onnx")
    service.worker("openvino")
    assert service.job()["requires"]["labels"] == []
    made = service.job(target="openvino-cpu", requires={"labels": ["rack-2"]})
    assert made["requires"]["labels"] == ["rack-2", "openvino-cpu"]
    assert shown(service, made["id"])["target"] == "openvino-cpu"
    labels = [f"label-{number}" for number in range(21)]
    body = {"model": made["model"], "steps": [{"method": "quantize"}], "target": "openvino-cpu"}
    answer = service.http.post("/v1/jobs", json={**body, "requires": {"labels": labels}})
    assert (answer.status_code, pointers(answer)) == (422, ["#/target"])


def trial_ends(service: Service, search_id: str) -> str:
    """Let the next trial of a search end on its worker."""
    take_turn(service, search_id)
    trial = start(service)
    assert trial is not None
    end(service, trial, (0.5, 0.005))
    return trial


def test_a_search_counts_the_boards_times(service: Service) -> None:
    device = register(service.http)
    made = search(service, "latency", target="my-board", budget={"trials": 2})
    first = trial_ends(service, made["id"])
    assert take_turn(service, made["id"]) == [], "it waits for the board"
    assert shown(service, made["id"])["search"]["trials"]["running"] == 1
    assert report(service, device, claimed(service, device)).is_success
    take_turn(service, made["id"])
    best = shown(service, made["id"])["search"]["best"]
    assert (best["id"], best["cost"], best["device"]) == (first, 0.25, "my-board")
    assert best["latency_ms"] == 1.0
    trial_ends(service, made["id"])
    slower = {**TIMES, "speedup": 3.8, "speedup_low": 3.7, "speedup_high": 3.9}
    assert report(service, device, claimed(service, device), latency=slower).is_success
    take_turn(service, made["id"])
    job = shown(service, made["id"])
    assert (job["status"], job["search"]["best"]["id"]) == ("succeeded", first)
    assert "2 of 2 trials were timed on 'my-board'" in job["verdict"]
    points = service.http.get(f"/v1/jobs/{made['id']}/front").json()["points"]
    assert points[-1]["latency_ms"] == 4.0, "the original's, on the board"
    [adopted] = measured(service, made["id"])
    assert adopted["artifact"] == job["artifacts"][0]["id"]
    taken = service.http.post(f"/v1/jobs/{made['id']}/front/{first}/take").json()
    assert measured(service, taken["id"])[0]["latency"]["speedup"] == 4.0
    assert claim(service.http, device) is None, "nothing is timed twice"


def test_a_search_goes_on_without_a_board_that_is_silent(service: Service) -> None:
    device = register(service.http)
    made = search(service, "latency", target="my-board", budget={"trials": 2})
    first = trial_ends(service, made["id"])
    task = claimed(service, device)
    impatient = DeviceSettings(silent_seconds=0.01)
    assert take_turn(service, made["id"], impatient) == [], "a claim that is renewed is no silence"
    with service.store.begin() as session:
        session.execute(update(MeasurementRow).values(lease_expires_at=MeasurementRow.created_at))
    [second] = take_turn(service, made["id"], impatient)
    assert report(service, device, task).status_code == 409, "it came too late"
    best = shown(service, made["id"])["search"]["best"]
    assert (best["id"], best["device"]) == (first, None)
    assert round(best["cost"], 3) == 0.333, "the worker's times"
    log = service.http.get(f"/v1/jobs/{made['id']}/measurements").json()["items"]
    assert log == []
    with service.store() as session:
        [told] = [
            row.problem for row in measurements.listed(session, first) if row.state == "failed"
        ]
    assert told is not None
    assert "silent" in told
    assert start(service) == second
    end(service, second, (0.5, 0.0))
    assert report(service, device, claimed(service, device), latency={
        **TIMES, "speedup": 3.8, "speedup_low": 3.7, "speedup_high": 3.9,
    }).is_success  # fmt: skip
    take_turn(service, made["id"])
    job = shown(service, made["id"])
    assert job["search"]["best"]["device"] == "my-board", "its times go before a worker's"
    assert "1 of 2 trials were timed on 'my-board'" in job["verdict"]


def test_a_search_has_hope_while_the_board_is_to_time_a_trial(service: Service) -> None:
    device = register(service.http)
    service.worker("onnx")
    service.worker("onnx")
    made = search(service, "latency", target="my-board", budget={"trials": 5, "at_once": 4})
    first = trial_ends(service, made["id"])
    for _ in range(asking.AT_FIRST):
        take_turn(service, made["id"])
        broken = start(service)
        assert broken is not None
        end(service, broken, None)
    take_turn(service, made["id"])
    assert shown(service, made["id"])["status"] == "running"
    assert report(service, device, claimed(service, device)).is_success
    take_turn(service, made["id"])
    assert shown(service, made["id"])["search"]["best"]["id"] == first


def test_deleting_a_device_ends_what_waits_for_it(service: Service) -> None:
    device = register(service.http)
    job = filed(service)
    service.http.delete(f"/v1/devices/{device['id']}")
    [ended] = measured(service, job)
    assert (ended["state"], ended["device"]) == ("failed", "my-board")
    with service.store() as session:
        assert devices.named(session, "acme", "my-board") is None
        assert session.get_one(JobRow, job).status == "succeeded"
        assert session.query(DeviceRow).count() == 0

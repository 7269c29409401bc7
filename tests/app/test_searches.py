"""Searches: a job that files trials, hears what they came to, and takes the best one's result."""

import pytest
from sqlalchemy import func, select

from app.store import searches, transitions
from app.store.tables import (
    DeliveryRow,
    EventRow,
    JobRow,
    SensitivityRow,
    TrialRow,
    UsageRow,
)
from tests.app.searching import (
    GOOD,
    Figures,
    Json,
    end,
    first_trial,
    run,
    search,
    shown,
    start,
    take_turn,
)
from tests.app.service import Service
from tests.workers.search.charts import chart
from workers.search import asking


def test_a_search_ends_with_its_best_trials_result_as_its_own(service: Service) -> None:
    made = search(service)
    assert made["steps"] is None
    assert made["objective"]["strategy"] == "guided"
    assert made["search"]["trials"] == {
        "budget": 4, "done": 0, "failed": 0, "running": 0, "left": 4,
    }  # fmt: skip
    figures: list[Figures] = [(0.6, 0.0), (0.4, 0.005), (0.2, 0.5), (0.5, 0.0)]
    trials = run(service, made["id"], lambda at: figures[at])
    job = shown(service, made["id"])
    assert job["status"] == "succeeded"
    assert job["search"]["trials"]["done"] == 4
    assert job["search"]["ended_by"] == "trials"
    assert job["search"]["best"]["id"] == trials[1]
    assert job["compressed"]["size_bytes"] == 1600
    assert job["baseline"]["size_bytes"] == 4000
    assert "0.4 of the size" in job["verdict"]
    assert job["usage"]["cpu_seconds"] == 8.0
    theirs, [ours] = shown(service, trials[1])["artifacts"], job["artifacts"]
    assert ours["sha256"] == theirs[0]["sha256"]
    assert ours["id"] != theirs[0]["id"]
    assert service.http.get(ours["href"]).status_code == 200
    report = service.http.get(f"/v1/jobs/{made['id']}/report").json()
    assert report["step_reports"][0]["after"]["size_bytes"] == 1600


def test_trials_are_jobs_of_their_search_and_nobody_elses(service: Service) -> None:
    made = search(service, tags=["mine"])
    trials = run(service, made["id"])
    listed = service.http.get("/v1/jobs").json()["items"]
    assert [job["id"] for job in listed] == [made["id"]]
    theirs = service.http.get("/v1/jobs", params={"parent": made["id"]}).json()["items"]
    assert [job["id"] for job in theirs] == trials[::-1]
    assert {job["parent"] for job in theirs} == {made["id"]}
    assert all(job["require"]["max_quality_drop"] == 0.01 for job in theirs)
    answer = service.other.get("/v1/jobs", params={"parent": made["id"]})
    assert answer.json()["items"] == []
    for call in (service.http.delete, lambda path: service.http.post(f"{path}/retry")):
        assert call(f"/v1/jobs/{trials[0]}").status_code == 409
    with service.store() as session:
        counted = session.scalar(select(func.sum(UsageRow.jobs)))
    assert counted == 1, "a search is one job"


def test_trials_are_asked_for_as_jobs_of_that_target_are(service: Service) -> None:
    service.worker("onnx")
    service.worker("litert")
    made = search(service, target="mobile-litert")
    [first] = take_turn(service, made["id"])[:1]
    trial = shown(service, first)
    own = service.job(
        target="mobile-litert", steps=[{"method": "quantize", "prefer": "size"}], dataset=None
    )
    for what in ("steps", "deliver", "requires"):
        assert trial[what] == own[what], what
    assert trial["steps"][0]["activations"] == "int8"


def test_a_front_holds_what_nothing_is_better_than(service: Service) -> None:
    made = search(service)
    figures: list[Figures] = [(0.6, 0.0), (0.4, 0.005), (0.2, 0.05), (0.7, 0.001)]
    trials = run(service, made["id"], lambda at: figures[at])
    front = service.http.get(f"/v1/jobs/{made['id']}/front").json()
    assert [point["id"] for point in front["points"]] == [trials[2], trials[1], trials[0]]
    assert [point["holds"] for point in front["points"]] == [False, True, True]
    assert front["best"] == trials[1]
    [beaten] = set(trials) - {point["id"] for point in front["points"]}
    assert shown(service, beaten)["artifacts"] == [], "nobody needs its file any more"
    answer = service.http.post(f"/v1/jobs/{made['id']}/front/{beaten}/take")
    assert answer.status_code == 404
    for point in front["points"]:
        assert point["steps"]
        assert service.http.get(point["artifact"]["href"]).status_code == 200
        assert [point["artifact"]] == shown(service, point["id"])["artifacts"]


def test_a_point_is_taken_as_a_job_without_new_work(service: Service) -> None:
    made = search(service)
    figures: list[Figures] = [(0.6, 0.0), (0.4, 0.005), (0.2, 0.05), (0.7, 0.001)]
    trials = run(service, made["id"], lambda at: figures[at])
    answer = service.http.post(f"/v1/jobs/{made['id']}/front/{trials[2]}/take")
    assert answer.status_code == 202, answer.text
    taken = answer.json()
    assert taken["status"] == "succeeded"
    assert taken["parent"] is None
    assert taken["compressed"]["size_bytes"] == 800
    assert taken["steps"] == shown(service, trials[2])["steps"]
    assert service.http.delete(f"/v1/jobs/{made['id']}").status_code == 204
    assert service.http.get(shown(service, taken["id"])["artifacts"][0]["href"]).status_code == 200
    assert service.http.get(f"/v1/jobs/{trials[0]}").status_code == 404, "trials go with it"


def test_nothing_that_pays_is_a_result_too(service: Service) -> None:
    made = search(service)
    run(service, made["id"], lambda _: (1.0, 0.0))
    job = shown(service, made["id"])
    assert job["status"] == "succeeded"
    assert job["verdict"].startswith("Nothing was changed")
    assert job["compressed"]["size_bytes"] == job["baseline"]["size_bytes"]
    assert service.http.get(job["artifacts"][0]["href"]).content == b"a model" * 20
    front = service.http.get(f"/v1/jobs/{made['id']}/front").json()
    assert [point["id"] for point in front["points"]] == ["original"]
    assert front["best"] == "original"
    answer = service.http.post(f"/v1/jobs/{made['id']}/front/original/take")
    assert answer.status_code == 409


@pytest.mark.parametrize("delivered", [True, False])
def test_where_nothing_pays_the_original_is_delivered_in_the_formats_that_were_asked_for(
    service: Service, delivered: bool
) -> None:
    service.worker("openvino")
    made = search(service, "macs", deliver=["openvino"])
    trials: list[list[Json] | None] = []

    def judge(_: int) -> Figures | None:
        newest = service.http.get("/v1/jobs", params={"parent": made["id"]}).json()["items"][0]
        trials.append(newest["steps"])
        return (1.0, 0.0) if newest["steps"] or delivered else None

    run(service, made["id"], judge)
    assert [bool(steps) for steps in trials] == [True] * 4 + [False]
    job = shown(service, made["id"])
    assert (job["status"], job["search"]["best"]) == ("succeeded", None)
    assert job["verdict"].startswith("Nothing was changed")
    assert ("It broke." in job["verdict"]) is not delivered
    expected = "openvino" if delivered else "onnx"
    assert [artifact["format"] for artifact in job["artifacts"]] == [expected]
    front = service.http.get(f"/v1/jobs/{made['id']}/front").json()
    assert [point["id"] for point in front["points"]] == ["original"]


@pytest.mark.parametrize("at_once", [1, 3, 9, 10])
def test_a_search_without_figures_fails_as_its_trials_did(service: Service, at_once: int) -> None:
    made = search(service, budget={"trials": 10, "at_once": at_once})
    trials = run(service, made["id"], lambda _: None)
    assert len(trials) == max(asking.AT_FIRST, at_once), "those that may run at one time are made"
    job = shown(service, made["id"])
    assert job["status"] == "failed"
    assert job["problem"]["detail"] == "It broke."


def test_a_trial_without_figures_is_one_trial(service: Service) -> None:
    made = search(service)
    run(service, made["id"], lambda at: None if at == 1 else GOOD)
    job = shown(service, made["id"])
    assert job["status"] == "succeeded"
    assert job["search"]["trials"]["failed"] == 1


def test_as_many_trials_are_filed_as_workers_can_run(service: Service) -> None:
    for _ in range(3):
        service.worker("onnx")
    made = search(service, budget={"at_once": 3})
    assert len(take_turn(service, made["id"])) == 3
    assert take_turn(service, made["id"]) == []
    first = start(service)
    assert first is not None
    end(service, first, GOOD)
    assert len(take_turn(service, made["id"])) == 1
    assert shown(service, made["id"])["search"]["trials"]["left"] == 0


@pytest.mark.parametrize(
    ("workers", "budget", "at_once"),
    [
        (0, {"trials": 9}, 1),
        (1, {}, 1),
        (2, {"trials": 9}, 2),
        (5, {"trials": 9}, 3),
        (1, {"trials": 9, "at_once": 7}, 7),
    ],
)
def test_as_many_trials_run_at_once_as_there_were_workers_when_a_search_was_submitted(
    service: Service, workers: int, budget: Json, at_once: int
) -> None:
    for _ in range(workers):
        service.worker("onnx")
    made = search(service, budget=budget)
    service.worker("onnx")
    assert shown(service, made["id"])["objective"]["budget"]["at_once"] == at_once


def test_progress_never_falls_and_each_best_is_told(service: Service) -> None:
    hook = {"url": "http://127.0.0.1:9/", "events": ["search.improved", "job.succeeded"]}
    assert service.http.post("/v1/webhooks", json=hook).status_code == 201
    made = search(service)
    figures: list[Figures] = [(0.6, 0.0), (0.7, 0.0), (0.4, 0.005), (0.3, 0.2)]
    run(service, made["id"], lambda at: figures[at])
    with service.store() as session:
        told = session.scalars(select(DeliveryRow.event).order_by(DeliveryRow.created_at)).all()
        data = session.execute(
            select(EventRow.kind, EventRow.data)
            .where(EventRow.job_id == made["id"])
            .order_by(EventRow.number)
        ).all()
    assert told == ["search.improved", "search.improved", "job.succeeded"]
    progress = [each["progress"] for kind, each in data if kind == "progress"]
    assert progress == sorted(progress)
    bests = [each["value"] for kind, each in data if kind == "metric"]
    assert bests == [0.6, 0.4]
    states = [each["status"] for kind, each in data if kind == "state"]
    assert states == ["queued", "running", "succeeded"]


def test_cancelling_a_search_ends_its_trials(service: Service) -> None:
    service.worker("onnx")
    service.worker("onnx")
    made = search(service)
    take_turn(service, made["id"])
    running = start(service)
    assert running is not None
    take_turn(service, made["id"])
    answer = service.http.post(f"/v1/jobs/{made['id']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status"] == "running", "its last trial still runs"
    with service.store.begin() as session:
        job = session.get_one(JobRow, running)
        assert job.cancel_requested
        transitions.finish(session, job, "cancelled")
    take_turn(service, made["id"])
    ended = shown(service, made["id"])
    assert (ended["status"], ended["search"]["ended_by"]) == ("cancelled", "cancelled")
    counts = ended["search"]["trials"]
    assert (counts["running"], counts["done"], counts["left"]) == (0, 1, 3), "one never ran"
    theirs = service.http.get("/v1/jobs", params={"parent": made["id"]}).json()["items"]
    assert {job["status"] for job in theirs} == {"cancelled"}
    assert start(service) is None


def test_a_cancelled_search_goes_on_after_a_retry(service: Service) -> None:
    made = search(service)
    first_trial(service, made["id"])
    take_turn(service, made["id"])
    cancelled = service.http.post(f"/v1/jobs/{made['id']}/cancel").json()
    assert (cancelled["status"], cancelled["search"]["ended_by"]) == ("cancelled", "cancelled")
    answer = service.http.post(f"/v1/jobs/{made['id']}/retry")
    assert answer.status_code == 202, answer.text
    assert answer.json()["search"]["ended_by"] is None
    assert len(run(service, made["id"])) == 3, "the trial that had ended counts"
    job = shown(service, made["id"])
    assert job["status"] == "succeeded"
    assert job["search"]["trials"]["done"] == 4


def test_nobody_runs_a_search_and_two_take_no_turn_at_once(service: Service) -> None:
    made = search(service)
    assert start(service) is None
    with service.store.begin() as session:
        assert searches.hold(session, made["id"]) is not None
        assert take_turn(service, made["id"]) == []


def test_trials_do_not_use_up_the_quota(service: Service) -> None:
    for _ in range(8):
        service.worker("onnx")
    made = search(service, budget={"trials": 8, "at_once": 8})
    assert len(take_turn(service, made["id"])) == 8
    assert service.job()["status"] == "queued", "five active jobs are allowed here"


def test_fronts_are_of_searches_and_of_the_tenant(service: Service) -> None:
    made = search(service)
    assert service.http.get(f"/v1/jobs/{service.job()['id']}/front").status_code == 404
    assert service.other.get(f"/v1/jobs/{made['id']}/front").status_code == 404
    assert service.http.get(f"/v1/jobs/{made['id']}/front").json()["points"] == []
    answer = service.http.post(f"/v1/jobs/{made['id']}/front/job_none/take")
    assert answer.status_code == 404


def test_a_chart_of_the_model_tells_with_how_much_to_begin(service: Service) -> None:
    def removed(cost: float) -> float:
        made = search(service, "macs")
        with service.store.begin() as session:
            row = session.get_one(JobRow, made["id"])
            session.add(
                SensitivityRow(
                    model_id=row.model_id,
                    dataset_id=row.dataset_id,
                    conditions="here",
                    job_id=row.id,
                    chart=chart(cost).model_dump(mode="json"),
                )
            )
        [trial] = take_turn(service, made["id"])
        with service.store.begin() as session:
            asked = session.scalars(select(TrialRow).where(TrialRow.job_id == trial)).one()
            return float(sum(asked.note["amounts"].values()))

    assert removed(1e-4) > removed(0.9)

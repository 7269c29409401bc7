"""What steps measured of a model before they chose is shown with the model."""

from typing import Any

from app.store.tables import StepRow
from tests.app.service import Service

CHOICE = {"title": "all 3 in integers", "size_bytes": 100, "speedup": 2.5, "lost": 0.004,
          "lost_error": 0.001, "chosen": True}  # fmt: skip
LAYER = {"node": "conv", "lost": 0.002, "gain": 0.4, "unit": "time", "bytes_saved": 3000,
         "time_saved": 0.4, "priced_together": 1, "quantized": True, "form": "static"}  # fmt: skip


def step(service: Service, job: str, index: int, **finished: Any) -> None:
    """Let a job have finished a step."""
    done = {"seconds": 1.0, "layers": [], "skipped": [], **finished}
    with service.store.begin() as session:
        session.add(StepRow(job_id=job, index=index, tenant="acme", finished=done))


def test_what_was_measured_is_there_once_the_step_is_done(service: Service) -> None:
    model = service.model()
    path = f"/v1/models/{model}/prices"
    assert service.http.get(path).json() == {"model": model, "steps": []}
    prune = {"method": "prune", "ratio": 0.3}
    asked = {"model": model, "dataset": service.dataset()}
    first = service.job(**asked, steps=[prune, {"method": "quantize", "prefer": "size"}])["id"]
    step(service, first, 0)
    other = {**LAYER, "form": "stored", "unit": "bytes", "gain": 3000.0, "time_saved": 0.0}
    step(service, first, 1, choices=[CHOICE], prices=[LAYER], other_prices=[other])
    second = service.job(**asked, steps=[{"method": "quantize"}])["id"]
    step(service, second, 0, choices=[CHOICE])
    shown = service.http.get(path).json()["steps"]
    assert [(each["job"], each["step"]) for each in shown] == [(second, 0), (first, 1)]
    assert (shown[1]["choices"], shown[1]["layers"]) == ([CHOICE], [LAYER])
    assert shown[1]["parameters"]["prefer"] == "size"
    assert shown[1]["others"] == [other]
    assert (shown[0]["layers"], shown[0]["others"]) == ([], [])


def test_what_a_search_took_from_its_best_trial_stands_with_the_trial(service: Service) -> None:
    model = service.model()
    asked = {"model": model, "dataset": service.dataset()}
    search = service.job(**asked, steps=None, objective={"minimize": "size"})["id"]
    trial = service.job(**asked, steps=[{"method": "quantize"}])["id"]
    for job in (search, trial):
        step(service, job, 0, choices=[CHOICE])
    shown = service.http.get(f"/v1/models/{model}/prices").json()["steps"]
    assert [each["job"] for each in shown] == [trial]


def test_nobody_sees_the_prices_of_others(service: Service) -> None:
    model = service.model()
    assert service.http.get(f"/v1/models/{model}/prices").status_code == 200
    for client, name in ((service.other, model), (service.http, "mdl_unknown")):
        assert client.get(f"/v1/models/{name}/prices").status_code == 404

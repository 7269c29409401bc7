"""What a client asks of the advice."""

from typing import Any

from tests.app.service import Service


def advice(service: Service, model: str, **wish: Any) -> list[dict[str, Any]]:
    """Return what is recommended."""
    answer = service.http.get(f"/v1/models/{model}/recommendations", params=wish)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def accepted(service: Service, body: dict[str, Any]) -> None:
    """Check that a request is taken as it is."""
    plan = service.http.post("/v1/jobs/plan", json=body)
    assert (plan.status_code, plan.json()["ok"]) == (200, True), (body, plan.text)
    job = service.http.post("/v1/jobs", json=body)
    assert job.status_code == 202, (body, job.text)
    assert service.http.post(f"/v1/jobs/{job.json()['id']}/cancel").status_code == 202

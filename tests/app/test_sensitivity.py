"""A model's chart of sensitivity: a job measures it, the model has it, a page shows it."""

from typing import Any

import pytest

import planish
from app.domain.sensitivity import FORMS, Sensitivity
from app.store import sensitivities
from app.store.tables import JobRow
from tests.app.people import browser, read, send
from tests.app.service import MACHINE, Service, pointers


def chart(seconds: float = 2.0, **changes: Any) -> Sensitivity:
    """What the engine measures of a convolution and a product, made up."""
    columns = len(FORMS)
    saved = {"size_bytes": 900, "macs": 0, "latency_ms": -0.02, "latency_from": "measured"}
    layer = {"parameters": 300, "macs": 400_000, "size_bytes": 1200, "latency_ms": 0.1}
    return Sensitivity.model_validate(
        {
            "layers": [
                {**layer, "name": "conv", "operator": "Conv"},
                {**layer, "name": "<script>", "operator": "Gemm"},
            ],
            "forms": FORMS,
            "cost": [[0.3, *[0.004] * (columns - 1)], [0.00001, *[None] * (columns - 1)]],
            "answers": None,
            "saved": [[saved] * columns, [saved, *[None] * (columns - 1)]],
            "reasons": [[None] * columns, [None, *["it has too few"] * (columns - 1)]],
            "samples": 64,
            "seed": 0,
            "seconds": seconds,
            "threads": 2,
            "runtime": "onnxruntime 1.32.0",
            "machine": MACHINE,
            "versions": {},
            **changes,
        }
    )


def measured(service: Service, model: str, samples: str, found: Sensitivity) -> str:
    """Ask for a chart, and let a worker have measured it."""
    field = "data" if samples == "generated" else "dataset"
    answer = service.http.post(f"/v1/models/{model}/sensitivity", json={field: samples})
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    with service.store.begin() as session:
        row = session.get_one(JobRow, job)
        sensitivities.keep(session, row, found)
        row.status = "succeeded"
    return job


def test_a_chart_is_asked_for_as_a_job_and_shown_with_what_it_holds_for(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    path = f"/v1/models/{model}/sensitivity"
    missing = service.http.get(path)
    assert (missing.status_code, missing.json()["type"]) == (404, "not-found")
    assert "POST" in missing.json()["detail"]
    job = measured(service, model, dataset, chart())
    shown = service.http.get(path).json()
    assert (shown["model"], shown["dataset"], shown["job"]) == (model, dataset, job)
    assert [layer["name"] for layer in shown["layers"]] == ["conv", "<script>"]
    assert [len(row) for row in shown["cost"]] == [len(FORMS)] * 2
    assert shown["saved"][0][0]["latency_from"] == "measured"
    row = service.http.get(f"/v1/jobs/{job}").json()
    assert (row["measure"], row["steps"], row["dataset"]) == ("sensitivity", None, dataset)
    assert "'conv' loses most: 30.00 % of the outputs' variance" in row["verdict"]
    report = service.http.get(f"/v1/jobs/{job}/report")
    assert report.status_code == 409
    assert path in report.json()["detail"]
    assert service.other.get(path).status_code == 404


def test_the_latest_chart_is_shown_or_that_of_a_dataset(service: Service) -> None:
    model, one, two = service.model(), service.dataset(), service.dataset(b"another" * 30)
    path = f"/v1/models/{model}/sensitivity"
    for dataset, seconds in ((one, 1.0), (two, 2.0), (one, 3.0)):
        measured(service, model, dataset, chart(seconds))
    assert service.http.get(path).json()["seconds"] == 3.0
    assert service.http.get(path, params={"data": two}).json()["seconds"] == 2.0
    assert service.http.get(path, params={"data": "dst_none"}).status_code == 404
    for job in service.http.get("/v1/jobs").json()["items"]:
        assert job["status"] in {"succeeded", "queued"}


def test_samples_of_a_chart_may_be_made_from_the_model(service: Service) -> None:
    model = service.model()
    path = f"/v1/models/{model}/sensitivity"
    job = measured(service, model, "generated", chart())
    assert service.http.get(path, params={"data": "generated"}).json()["dataset"] == "generated"
    asked = service.http.get(f"/v1/jobs/{job}").json()
    assert (asked["dataset"], asked["data"]) == (None, "generated")
    with browser(service) as person:
        address = path.removeprefix("/v1")
        assert "64 samples that were made from the model" in read(person.get(address))
        assert f'href="{address}?data=generated"' in person.get(f"/jobs/{job}").text
        assert send(person, address, dataset="generated").status_code == 303
    with planish.Client(service.url, service.key) as client:
        assert client.models.measure_sensitivity(model, "generated").data == "generated"
    both = {"dataset": service.dataset(), "data": "generated"}
    assert pointers(service.http.post(path, json=both)) == ["#/data"]


def test_what_cannot_be_measured_is_refused(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    path = f"/v1/models/{model}/sensitivity"
    for body, pointer in (
        ({}, "#/dataset"),
        ({"dataset": "dst_none"}, "#/dataset"),
        ({"dataset": dataset, "steps": []}, "#/steps"),
    ):
        answer = service.http.post(path, json=body)
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid"), answer.text
        assert pointers(answer) == [pointer]
    assert service.other.post(path, json={"dataset": dataset}).status_code == 404
    steps = [{"method": "quantize"}]
    for job, pointer in (
        ({"model": model, "measure": "sensitivity"}, "#/dataset"),
        ({"model": model, "measure": "sensitivity", "steps": steps}, "#/measure"),
        ({"model": model, "measure": "luck"}, "#/measure"),
    ):
        answer = service.http.post("/v1/jobs", json=job)
        assert answer.status_code == 422, answer.text
        assert pointers(answer) == [pointer], answer.text


def test_a_chart_may_say_more_of_its_machine_than_an_index_takes(service: Service) -> None:
    model, words = service.model(), "".join(map(chr, range(0x4E00, 0x6000)))
    measured(service, model, "generated", chart(runtime=words))
    shown = service.http.get(f"/v1/models/{model}/sensitivity").json()
    assert shown["runtime"] == words


def test_a_chart_whose_rows_are_not_whole_is_no_chart() -> None:
    with pytest.raises(ValueError, match="a row for each layer"):
        chart(cost=[[0.1]])


def test_the_page_shows_numbers_colours_and_reasons(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    with browser(service) as person:
        empty = person.get(f"/models/{model}/sensitivity")
        assert "This was not measured yet" in read(empty)
        refused = send(person, f"/models/{model}/sensitivity")
        assert refused.status_code == 422
        sent = send(person, f"/models/{model}/sensitivity", dataset=dataset)
        assert sent.status_code == 303
        assert "Measurement of layers" in read(person.get(sent.headers["location"]))
        measured(service, model, dataset, chart())
        page = person.get(f"/models/{model}/sensitivity")
    text = read(page)
    assert 'class="n heat4"><b>30 %</b>' in page.text
    assert 'class="n heat1"><b>0.4 %</b>' in page.text
    assert "< 0.01 %" in text
    assert "\u22120.02 ms" in text
    assert "it has too few" in text
    assert "<script>" not in page.text.split("<main")[1]


def test_the_layer_that_costs_most_is_named_by_the_figure_that_results_are_judged_by(
    service: Service,
) -> None:
    """By answers, where the output holds classes: the layer that loses most variance is another."""
    model, rest = service.model(), [None] * (len(FORMS) - 1)
    cost = [[0.3, *rest], [0.2, *rest]]
    pages = []
    with browser(service) as person:
        for answers in ([[0.01, *rest], [0.0625, *rest]], [[0.0, *rest]] * 2):
            found = chart(cost=cost, answers=answers, saved=_saved_in(cost))
            job = measured(service, model, "generated", found)
            pages.append(person.get(f"/models/{model}/sensitivity"))
            verdict = service.http.get(f"/v1/jobs/{job}").json()["verdict"]
            assert verdict in read(pages[-1])
    assert "In int8 '<script>' changes most: 6.25 % of the answers." in read(pages[0])
    assert '<td class="n heat3"><b>6.2 %</b> <span>20 %</span>' in pages[0].text
    assert "In int8 no layer alone changes an answer." in read(pages[1])


def _saved_in(cost: list[list[float | None]]) -> list[list[Any]]:
    saved = {"size_bytes": 900, "macs": 0, "latency_ms": None, "latency_from": None}
    return [[None if cell is None else saved for cell in row] for row in cost]


def test_the_client_asks_for_a_chart_and_reads_it(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    with planish.Client(service.url, service.key) as client:
        assert client.models.measure_sensitivity(model, dataset).status == "queued"
        with pytest.raises(planish.NotFound, match="was not measured"):
            client.models.sensitivity(model)
        measured(service, model, dataset, chart())
        assert client.models.sensitivity(model, data=dataset)["samples"] == 64

"""Advice: jobs that are accepted as they are, with reasons that are measured or computed."""

import tempfile
from pathlib import Path
from typing import Any, get_args

import pytest

import planish
from app.domain.makeup import alike, likeness
from app.domain.models import ModelDescription
from app.domain.recommendations import Risk
from tests.app.advising import accepted, advice
from tests.app.service import Service, pointers
from tests.app.test_sensitivity import chart, measured
from tests.workers import zoo
from workers.compression.intake.inspect import inspect_model

NETS = ("residual", "inverted_residual", "bert", "mlp")


@pytest.fixture(scope="module")
def described() -> dict[str, dict[str, Any]]:
    """What inspection finds of networks of every kind."""
    found = {}
    for name in NETS:
        with tempfile.TemporaryDirectory() as scratch:
            known = inspect_model(zoo.path(name), Path(scratch))
            found[name] = known.model_dump(mode="json")
    return found


def _dataset(service: Service, known: dict[str, Any], samples: int = 1000) -> str:
    """A dataset that fits a model, without targets."""
    arrays = [
        {
            **tensor,
            "shape": [samples, *(16 if isinstance(n, str) else n for n in tensor["shape"][1:])],
        }
        for tensor in known["inputs"]
    ]
    content = f"of {arrays}".encode()
    return service.dataset(content, samples=samples, arrays=arrays, targets=None)


@pytest.mark.parametrize("net", NETS)
def test_every_recommendation_is_a_job_that_is_accepted_as_it_is(
    service: Service, described: dict[str, dict[str, Any]], net: str
) -> None:
    known = described[net]
    model = service.model(net.encode(), **known)
    data = _dataset(service, known)
    for minimize in ("latency", "size", "macs"):
        for wish in ({}, {"data": data}, {"data": data, "max_quality_drop": 0.01}):
            items = advice(service, model, minimize=minimize, **wish)
            assert items, (minimize, wish)
            assert len({item["id"] for item in items}) == len(items)
            for item in items:
                accepted(service, item["job"])
                assert item["job"].get("dataset") == wish.get("data")
                assert item["estimate"]["latency_ms"] is None, "nothing was timed"
                assert item["estimate"]["measured"] == []
                assert item["reason"], item
                assert item["caution"], item
            risks = [get_args(Risk).index(item["risk"]) for item in items if item["id"] != "search"]
            assert risks == sorted(risks), "the least risk stands first"


def test_reasons_name_shares_that_add_up(service: Service) -> None:
    layers = [
        {"name": "a", "operator": "Conv", "parameters": 900, "macs": 620_000, "kernel": [3, 3]},
        {"name": "b", "operator": "Conv", "parameters": 90, "macs": 80_000, "groups": 9},
        {"name": "c", "operator": "Gemm", "parameters": 3000, "macs": 300_000},
    ]
    model = service.model(layers=layers, macs=1_000_000)
    [cut, *_] = [each for each in advice(service, model, minimize="macs") if "prune" in each["id"]]
    assert cut["reason"].startswith(
        "62 % of the multiplications are in 3×3 convolutions, 30 % in products with weights."
    )
    assert cut["estimate"]["macs"] == 800_000
    assert "there is no data" in cut["reason"]
    integers = advice(service, model, data=service.dataset())
    [automatic] = [each for each in integers if each["id"] == "quantize"]
    assert automatic["reason"].startswith("92 % of the multiplications")


def test_advice_that_cannot_be_given_says_why(service: Service) -> None:
    model = service.model()
    path = f"/v1/models/{model}/recommendations"
    assert service.other.get(path).status_code == 404
    assert service.http.get("/v1/models/mdl_none/recommendations").status_code == 404
    rejected = service.http.get(f"/v1/models/{service.rejected_model()}/recommendations")
    assert (rejected.status_code, rejected.json()["type"]) == (409, "conflict")
    wrong = service.dataset(b"other" * 9, arrays=[{"name": "z", "dtype": "float32", "shape": [9]}])
    for params, kind, pointer in (
        ({"data": "dst_none"}, "invalid", "#/query/data"),
        ({"data": wrong}, "dataset-mismatch", "#/query/data"),
        ({"minimize": "money"}, "invalid", "#/query/minimize"),
        ({"max_quality_drop": "-1"}, "invalid", "#/query/max_quality_drop"),
        ({"target": "moon"}, "invalid", "#/query/target"),
    ):
        answer = service.http.get(path, params=params)
        assert (answer.status_code, answer.json()["type"]) == (422, kind), (params, answer.text)
        assert pointers(answer) == [pointer]
    service.worker("onnx")
    lacking = service.http.get(path, params={"target": "mobile-litert"})
    assert (lacking.status_code, lacking.json()["type"]) == (422, "not-available")
    assert "planish tools install litert" in lacking.json()["detail"]


def test_a_quantized_model_is_left_alone(service: Service) -> None:
    model = service.model(operators={"QLinearConv": 3})
    assert advice(service, model, minimize="size", data=service.dataset()) == []


def test_models_are_alike_by_what_does_the_work_and_how_much(
    described: dict[str, dict[str, Any]],
) -> None:
    keys = {
        name: likeness(ModelDescription.model_validate(known)) for name, known in described.items()
    }
    assert keys["residual"].startswith("convolution:")
    assert keys["inverted_residual"].startswith("convolution+grouped:")
    assert keys["bert"].startswith("product:")
    family, _, size = keys["residual"].rpartition(":")
    assert alike(keys["residual"]) == [f"{family}:{int(size) + step}" for step in (-1, 0, 1)]


def test_the_client_submits_what_it_was_recommended(service: Service) -> None:
    with planish.Client(service.url, service.key) as client:
        [first, *_] = client.models.recommendations(
            service.model(), minimize="size", max_quality_drop=0.02, data=service.dataset()
        )
        job = client.jobs.create(**first.job)
    assert job.steps is not None
    assert [step["method"] for step in job.steps] == [s["method"] for s in first.job["steps"]]


def test_generated_data_is_as_good_as_a_dataset_for_what_it_can_do(service: Service) -> None:
    items = advice(service, service.model(), data="generated")
    assert any(step.get("recover") for item in items for step in item["job"].get("steps", []))
    assert items[-1]["job"]["objective"] == {"minimize": "latency"}, "a search comes last"
    for item in items:
        assert item["job"]["data"] == "generated"
        assert "dataset" not in item["job"]
        accepted(service, item["job"])
    assert any("samples made from the model" in item["reason"] for item in items)


def test_a_chart_of_the_model_is_read(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    before = [item["id"] for item in advice(service, model, data=dataset)]
    measured(service, model, dataset, chart())
    after = advice(service, model, data=dataset)
    [automatic] = [item for item in after if item["id"] == "quantize"]
    assert "1 of 2 layers lose less than 1 % of the outputs' variance" in automatic["reason"]
    assert "'conv' loses most, 30 %" in automatic["reason"]
    ids = [item["id"] for item in after]
    assert ids.index("train-int8") > before.index("train-int8"), "of its risk it gains less"


def test_what_would_leave_every_layer_alone_is_not_recommended(service: Service) -> None:
    small = {"name": "conv", "operator": "Conv", "parameters": 500, "macs": 600_000}
    grouped = {**small, "kernel": [3, 3], "groups": 16}
    narrow = {**small, "kernel": [3, 3]}
    up = {**small, "operator": "ConvTranspose", "kernel": [2, 2]}
    wide = {**small, "kernel": [3, 3], "parameters": 5000}
    for number, (layer, there) in enumerate(
        [(grouped, False), (narrow, False), (up, False), (wide, True)]
    ):
        model = service.model(f"net {number}".encode() * 9, layers=[layer], macs=600_000)
        for minimize in ("latency", "size", "macs"):
            found = {each["id"] for each in advice(service, model, minimize=minimize)}
            assert ("low-rank-20" in found) == there, (layer, minimize)
            assert "dynamic" not in found

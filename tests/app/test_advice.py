"""Advice: jobs that are accepted as they are, with reasons that are measured or computed."""

import tempfile
from pathlib import Path
from typing import Any, get_args

import pytest

import planish
from app.domain.makeup import alike, likeness
from app.domain.models import ModelDescription
from app.domain.recommendations import Risk
from app.domain.steps import METHODS, AnyStep
from app.services.precedents import signature
from app.store.tables import JobRow, ModelRow
from tests.app.service import EVALUATION, FIDELITY, MEASURES, STEP_REPORT, Service, pointers
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


def _advice(service: Service, model: str, **wish: Any) -> list[dict[str, Any]]:
    answer = service.http.get(f"/v1/models/{model}/recommendations", params=wish)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def _accepted(service: Service, body: dict[str, Any]) -> None:
    plan = service.http.post("/v1/jobs/plan", json=body)
    assert (plan.status_code, plan.json()["ok"]) == (200, True), (body, plan.text)
    job = service.http.post("/v1/jobs", json=body)
    assert job.status_code == 202, (body, job.text)
    assert service.http.post(f"/v1/jobs/{job.json()['id']}/cancel").status_code == 202


@pytest.mark.parametrize("net", NETS)
def test_every_recommendation_is_a_job_that_is_accepted_as_it_is(
    service: Service, described: dict[str, dict[str, Any]], net: str
) -> None:
    known = described[net]
    model = service.model(net.encode(), **known)
    data = _dataset(service, known)
    for minimize in ("latency", "size", "macs"):
        for wish in ({}, {"data": data}, {"data": data, "max_quality_drop": 0.01}):
            items = _advice(service, model, minimize=minimize, **wish)
            assert items, (minimize, wish)
            assert len({item["id"] for item in items}) == len(items)
            for item in items:
                _accepted(service, item["job"])
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
    [cut, *_] = [each for each in _advice(service, model, minimize="macs") if "prune" in each["id"]]
    assert cut["reason"].startswith(
        "62 % of the multiplications are in 3×3 convolutions, 30 % in products with weights."
    )
    assert cut["estimate"]["macs"] == 800_000
    assert "there is no data" in cut["reason"]
    integers = _advice(service, model, data=service.dataset())
    [automatic] = [each for each in integers if each["id"] == "quantize"]
    assert automatic["reason"].startswith("92 % of the multiplications")


def _measured(
    service: Service,
    model: str,
    steps: list[dict[str, Any]],
    *,
    certain: bool = True,
    data: str | None = None,
    **after: Any,
) -> str:
    """A finished job with figures, as a worker leaves it."""
    job: str = service.job(model, steps=steps, **({"dataset": data} if data else {}))["id"]
    service.start(job)
    service.finish(job)
    with service.store.begin() as session:
        row = session.get_one(JobRow, job)
        description = session.get_one(ModelRow, model).description
        row.likeness = likeness(ModelDescription.model_validate(description))
        row.compressed = {**STEP_REPORT["after"], **after}
        speedup = MEASURES["latency_ms"] / row.compressed["latency_ms"]
        latency = {**EVALUATION["latency"], "speedup": speedup, "certain": certain}
        row.evaluation = {**EVALUATION, "latency": latency}
    return job


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_jobs_of_every_method_can_be_compared(method: type[AnyStep]) -> None:
    assert method.model_fields["method"].default in signature([method()])


def test_what_finished_jobs_measured_is_told_and_ranks_first(service: Service) -> None:
    steps = [{"method": "low_rank", "ratio": 0.2, "of": "latency"}]
    before = _advice(service, service.model())
    other = service.model(b"like it" * 30)
    job = _measured(service, other, steps, latency_ms=0.5, size_bytes=1000, macs=250_000)
    model = service.model(b"new" * 30)
    after = _advice(service, model)
    assert before[0]["id"] != "low-rank-20"
    assert after[0]["id"] == "low-rank-20"
    told = after[0]
    assert (
        "A job on models of like shape made it 3.00 times faster, with 25 % of the size and 50 %"
        " of the work" in told["reason"]
    )
    assert told["estimate"]["macs"] == 250_000
    assert told["estimate"]["jobs"] == [job]
    assert told["estimate"]["measured"] == ["size_bytes", "macs"]
    assert told["estimate"]["latency_ms"] is None, "this model was never timed"
    own = _measured(service, model, steps, latency_ms=1.0)
    [again, *_] = [each for each in _advice(service, model) if each["id"] == "low-rank-20"]
    assert again["estimate"]["jobs"] == [own], "jobs on the model itself count alone"
    assert again["estimate"]["latency_ms"] == 1.0
    assert "A job on this model made it 1.50 times faster" in again["reason"]


def test_steps_that_lost_more_than_is_allowed_come_last(service: Service) -> None:
    model = service.model()
    steps = [{"method": "prune", "ratio": 0.2, "of": "latency"}]
    quality: dict[str, Any] = {"metric": "top1", "value": 0.7, "split": "held_out", "samples": 20}
    _measured(service, model, steps, latency_ms=0.5, quality=quality)
    free = [each["id"] for each in _advice(service, model)]
    bounded = [each["id"] for each in _advice(service, model, max_quality_drop=0.01)]
    assert free[-1] == bounded[-1] == "prune-20"


def _noise(bounded: str = "explained") -> dict[str, Any]:
    """The figures of a result that does not do what the original does."""
    fidelity = {**FIDELITY, "agreement": 0.2, "explained": -3324.0, "bounded": bounded}
    return {"quality": None, "fidelity": fidelity}


def test_steps_that_are_known_to_ruin_a_model_are_not_recommended(service: Service) -> None:
    model = service.model()
    cut = [{"method": "prune", "ratio": 0.2, "of": "latency"}]
    most: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.9}]
    for minimize in ("latency", "size", "macs"):
        assert any(item["id"] == "prune-20" for item in _advice(service, model, minimize=minimize))
    fast: dict[str, Any] = {"latency_ms": 0.06, "size_bytes": 100, "macs": 1000}
    _measured(service, model, cut, **fast, **_noise())
    ruined = _measured(service, model, most, **fast, **_noise("agreement"))
    for minimize in ("latency", "size", "macs"):
        for wish in ({}, {"max_quality_drop": 0.5}):
            items = _advice(service, model, minimize=minimize, **wish)
            assert ruined not in str(items)
            assert not any(item["job"].get("steps") == cut for item in items)


def test_steps_of_a_method_that_ruined_the_model_before_say_so(service: Service) -> None:
    model = service.model()
    most: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.9}]
    zeros: list[dict[str, Any]] = [
        {"method": "prune", "granularity": "unstructured", "sparsity": 0.99}
    ]

    def caution() -> str:
        [item] = [item for item in _advice(service, model) if item["id"] == "prune-20"]
        assert item["risk"] == "high"
        return str(item["caution"])

    _measured(service, model, zeros, size_bytes=100, **_noise())
    assert "ruined" not in caution(), "that is quite another method"
    _measured(service, model, most, size_bytes=100, **_noise())
    assert "A job of the same method, with other figures, ruined this model." in caution()
    _measured(service, model, most, size_bytes=100, **_noise())
    assert "2 jobs of the same method, with other figures, ruined this model." in caution()


@pytest.mark.parametrize(("allowed", "there"), [({}, False), ({"max_quality_drop": 0.3}, True)])
def test_pipelines_are_taken_over_that_lost_no_more_than_is_allowed(
    service: Service, allowed: dict[str, float], there: bool
) -> None:
    model = service.model()
    fidelity = {**FIDELITY, "explained": 0.75, "bounded": "explained"}
    steps: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.9}]
    job = _measured(service, model, steps, latency_ms=0.1, quality=None, fidelity=fidelity)
    taken = [item for item in _advice(service, model, **allowed) if item["id"] == f"as-{job}"]
    assert bool(taken) == there
    for item in taken:
        assert "75.0 % of the outputs' variance was kept" in item["reason"]
        assert "points" not in item["reason"]
        assert "random inputs" in item["caution"], "the job had no data"


def test_a_caution_names_the_data_where_there_was_some(service: Service) -> None:
    model, data = service.model(), service.dataset()
    steps: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.4}]
    job = _measured(service, model, steps, data=data, latency_ms=0.4)
    [item] = [item for item in _advice(service, model, data=data) if item["id"] == f"as-{job}"]
    assert item["caution"] == "It was measured on this model, with the data of that job."


def test_figures_hold_for_the_data_that_they_were_measured_with(service: Service) -> None:
    """With other data steps choose otherwise, and samples have other sizes."""
    model, data, other = service.model(), service.dataset(), service.dataset(b"another one" * 9)
    steps: list[dict[str, Any]] = [{"method": "quantize", "prefer": "speed"}]
    with_data = _measured(service, model, steps, data=data, latency_ms=0.4)
    without = _measured(service, model, [{"method": "prune", "ratio": 0.4}], latency_ms=0.3)
    for wish, told in (
        ({}, without),
        ({"data": data}, with_data),
        ({"data": other}, None),
        ({"data": "generated"}, None),
    ):
        items = _advice(service, model, **wish)
        assert {job for item in items for job in item["estimate"]["jobs"]} == ({told} - {None})
    like = service.model(b"like it" * 30)
    assert with_data in str(_advice(service, like, data=other)), "its data is its own"
    assert with_data not in str(_advice(service, like))


@pytest.mark.parametrize(
    ("latency_ms", "said"),
    [(7.5, "made it 5.00 times slower"), (1.52, "kept the speed"), (0.5, "made it 3.00 times")],
)
def test_what_was_measured_of_the_speed_is_said_in_words(
    service: Service, latency_ms: float, said: str
) -> None:
    model = service.model()
    steps: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.2, "of": "size"}]
    macs = MEASURES["macs"]
    _measured(service, model, steps, latency_ms=latency_ms, size_bytes=3000, macs=macs)
    [item] = [item for item in _advice(service, model, minimize="size") if "jobs" in str(item)
              and item["estimate"]["jobs"]]  # fmt: skip
    assert f"A job on this model {said}" in item["reason"]
    assert "and the same work" in item["reason"]


def test_what_was_measured_decides_the_risk(service: Service) -> None:
    model, data = service.model(), service.dataset()
    cut: list[dict[str, Any]] = [
        {"method": "prune", "ratio": 0.5, "of": "latency", "recover": {"epochs": 10}}
    ]

    def risk(name: str, model: str = model, data: str | None = data) -> str:
        items = _advice(service, model, **({"data": data} if data else {}))
        return next(str(item["risk"]) for item in items if item["id"] == name)

    assert (risk("prune-50"), risk("prune-20", data=None)) == ("medium", "high")
    _measured(service, model, cut, data=data, latency_ms=0.5)
    assert risk("prune-50") == "low", "it lost nothing here"
    like = service.model(b"like it" * 30)
    assert risk("prune-50", like) == "medium", "what suits one need not suit another"
    fifth = [{"method": "prune", "ratio": 0.2, "of": "latency"}]
    _measured(service, model, fifth, latency_ms=0.5)
    assert risk("prune-20", data=None) == "medium", "random inputs tell little"
    quality: dict[str, Any] = {"metric": "top1", "value": 0.7, "split": "held_out", "samples": 20}
    before = risk("quantize")
    auto: list[dict[str, Any]] = [{"method": "quantize", "prefer": "speed"}]
    _measured(service, model, auto, data=data, latency_ms=0.5, quality=quality)
    assert (before, risk("quantize")) == ("low", "high")


def test_a_speed_that_a_busy_machine_could_not_tell_is_not_told(service: Service) -> None:
    model = service.model()
    steps = [{"method": "low_rank", "ratio": 0.2, "of": "latency"}]
    _measured(service, model, steps, certain=False, latency_ms=0.06)
    [item] = [item for item in _advice(service, model) if item["id"] == "low-rank-20"]
    assert "A job on this model came to 30 % of the size" in item["reason"]
    assert "speed" not in item["reason"]
    assert item["estimate"]["latency_ms"] is None


def test_a_pipeline_that_worked_is_taken_over(service: Service) -> None:
    integers = {"method": "quantize", "mode": "dynamic"}
    steps: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.4}, integers]
    job = _measured(service, service.model(b"like it" * 30), steps, latency_ms=0.4)
    named: list[dict[str, Any]] = [{**integers, "ignore": ["conv"]}]
    _measured(service, service.model(b"with names" * 30), named, latency_ms=0.1)
    items = _advice(service, service.model(b"new" * 30))
    assert items[0]["id"] == f"as-{job}"
    assert items[0]["job"]["steps"] == steps
    _accepted(service, items[0]["job"])
    assert not any("ignore" in str(item["job"]) for item in items), "other models have other names"


def test_jobs_of_another_tenant_or_another_kind_of_model_tell_nothing(service: Service) -> None:
    steps = [{"method": "prune", "ratio": 0.2, "of": "latency"}]
    job = _measured(service, service.model(), steps, latency_ms=0.5)
    larger = {"name": "conv", "operator": "Conv", "parameters": 300, "macs": 10**9}
    unlike = service.model(b"larger" * 30, layers=[larger])
    assert job not in str(_advice(service, unlike))
    with service.store.begin() as session:
        session.get_one(JobRow, job).tenant = "other"
    assert job not in str(_advice(service, service.model(b"new" * 30)))


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
    assert _advice(service, model, minimize="size", data=service.dataset()) == []


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
    items = _advice(service, service.model(), data="generated")
    assert any(step.get("recover") for item in items for step in item["job"].get("steps", []))
    assert items[-1]["job"]["objective"] == {"minimize": "latency"}, "a search comes last"
    for item in items:
        assert item["job"]["data"] == "generated"
        assert "dataset" not in item["job"]
        _accepted(service, item["job"])
    assert any("samples made from the model" in item["reason"] for item in items)


def test_a_chart_of_the_model_is_read(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    before = [item["id"] for item in _advice(service, model, data=dataset)]
    measured(service, model, dataset, chart())
    after = _advice(service, model, data=dataset)
    [automatic] = [item for item in after if item["id"] == "quantize"]
    assert "1 of 2 layers lose less than 1 % of the outputs' variance" in automatic["reason"]
    assert "'conv' loses most, 30 %" in automatic["reason"]
    ids = [item["id"] for item in after]
    assert ids.index("train-int8") > before.index("train-int8"), "of its risk it gains less"

"""Advice by what finished jobs measured, on the model and on those that are like it."""

from typing import Any

import pytest

from app.domain.makeup import likeness
from app.domain.models import ModelDescription
from app.domain.steps import METHODS, AnyStep
from app.services.precedents import signature
from app.store.tables import JobRow, ModelRow
from tests.app.advising import accepted, advice
from tests.app.service import EVALUATION, FIDELITY, MEASURES, STEP_REPORT, Service


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
    before = advice(service, service.model())
    other = service.model(b"like it" * 30)
    job = _measured(service, other, steps, latency_ms=0.5, size_bytes=1000, macs=250_000)
    model = service.model(b"new" * 30)
    after = advice(service, model)
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
    [again, *_] = [each for each in advice(service, model) if each["id"] == "low-rank-20"]
    assert again["estimate"]["jobs"] == [own], "jobs on the model itself count alone"
    assert again["estimate"]["latency_ms"] == 1.0
    assert "A job on this model made it 1.50 times faster" in again["reason"]


def test_steps_that_lost_more_than_is_allowed_come_last(service: Service) -> None:
    model = service.model()
    steps = [{"method": "prune", "ratio": 0.2, "of": "latency"}]
    quality: dict[str, Any] = {"metric": "top1", "value": 0.7, "split": "held_out", "samples": 20}
    _measured(service, model, steps, latency_ms=0.5, quality=quality)
    free = [each["id"] for each in advice(service, model)]
    bounded = [each["id"] for each in advice(service, model, max_quality_drop=0.01)]
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
        assert any(item["id"] == "prune-20" for item in advice(service, model, minimize=minimize))
    fast: dict[str, Any] = {"latency_ms": 0.06, "size_bytes": 100, "macs": 1000}
    _measured(service, model, cut, **fast, **_noise())
    ruined = _measured(service, model, most, **fast, **_noise("agreement"))
    for minimize in ("latency", "size", "macs"):
        for wish in ({}, {"max_quality_drop": 0.5}):
            items = advice(service, model, minimize=minimize, **wish)
            assert ruined not in str(items)
            assert not any(item["job"].get("steps") == cut for item in items)


def test_steps_of_a_method_that_ruined_the_model_before_say_so(service: Service) -> None:
    model = service.model()
    most: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.9}]
    zeros: list[dict[str, Any]] = [
        {"method": "prune", "granularity": "unstructured", "sparsity": 0.99}
    ]

    def caution() -> str:
        [item] = [item for item in advice(service, model) if item["id"] == "prune-20"]
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
    taken = [item for item in advice(service, model, **allowed) if item["id"] == f"as-{job}"]
    assert bool(taken) == there
    for item in taken:
        assert "75.0 % of the outputs' variance was kept" in item["reason"]
        assert "points" not in item["reason"]
        assert "random inputs" in item["caution"], "the job had no data"


def test_a_caution_names_the_data_where_there_was_some(service: Service) -> None:
    model, data = service.model(), service.dataset()
    steps: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.4}]
    job = _measured(service, model, steps, data=data, latency_ms=0.4)
    [item] = [item for item in advice(service, model, data=data) if item["id"] == f"as-{job}"]
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
        items = advice(service, model, **wish)
        assert {job for item in items for job in item["estimate"]["jobs"]} == ({told} - {None})
    like = service.model(b"like it" * 30)
    assert with_data in str(advice(service, like, data=other)), "its data is its own"
    assert with_data not in str(advice(service, like))


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
    [item] = [item for item in advice(service, model, minimize="size") if "jobs" in str(item)
              and item["estimate"]["jobs"]]  # fmt: skip
    assert f"A job on this model {said}" in item["reason"]
    assert "and the same work" in item["reason"]


def test_what_was_measured_decides_the_risk(service: Service) -> None:
    model, data = service.model(), service.dataset()
    cut: list[dict[str, Any]] = [
        {"method": "prune", "ratio": 0.5, "of": "latency", "recover": {"epochs": 10}}
    ]

    def risk(name: str, model: str = model, data: str | None = data) -> str:
        items = advice(service, model, **({"data": data} if data else {}))
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
    [item] = [item for item in advice(service, model) if item["id"] == "low-rank-20"]
    assert "A job on this model came to 30 % of the size" in item["reason"]
    assert "speed" not in item["reason"]
    assert item["estimate"]["latency_ms"] is None


def test_a_pipeline_that_worked_is_taken_over(service: Service) -> None:
    integers = {"method": "quantize", "mode": "dynamic"}
    steps: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.4}, integers]
    job = _measured(service, service.model(b"like it" * 30), steps, latency_ms=0.4)
    named: list[dict[str, Any]] = [{**integers, "ignore": ["conv"]}]
    _measured(service, service.model(b"with names" * 30), named, latency_ms=0.1)
    items = advice(service, service.model(b"new" * 30))
    assert items[0]["id"] == f"as-{job}"
    assert items[0]["job"]["steps"] == steps
    accepted(service, items[0]["job"])
    assert not any("ignore" in str(item["job"]) for item in items), "other models have other names"


def test_jobs_of_another_tenant_or_another_kind_of_model_tell_nothing(service: Service) -> None:
    steps = [{"method": "prune", "ratio": 0.2, "of": "latency"}]
    job = _measured(service, service.model(), steps, latency_ms=0.5)
    larger = {"name": "conv", "operator": "Conv", "parameters": 300, "macs": 10**9}
    unlike = service.model(b"larger" * 30, layers=[larger])
    assert job not in str(advice(service, unlike))
    with service.store.begin() as session:
        session.get_one(JobRow, job).tenant = "other"
    assert job not in str(advice(service, service.model(b"new" * 30)))


def test_a_size_that_no_samples_decide_is_known_from_jobs_with_other_data(service: Service) -> None:
    model, data = service.model(), service.dataset()
    half: list[dict[str, Any]] = [{"method": "quantize", "mode": "float16"}]
    chosen: list[dict[str, Any]] = [{"method": "quantize", "prefer": "size"}]
    job = _measured(service, model, half, size_bytes=3000, latency_ms=0.1)
    other = _measured(service, model, chosen, size_bytes=2000)
    items = advice(service, model, data=data, minimize="size")
    [item] = [item for item in items if item["id"] == "float16"]
    smaller = MEASURES["size_bytes"] / 3000
    size = service.http.get(f"/v1/models/{model}").json()["size_bytes"]
    assert item["estimate"]["size_bytes"] == round(size / smaller)
    assert item["estimate"]["jobs"] == [job]
    assert item["estimate"]["measured"] == ["size_bytes", "macs"]
    assert item["estimate"]["latency_ms"] is None, "samples may have other sizes"
    assert "A job on this model with other data came to " in item["reason"]
    assert "quality" not in item["reason"], "of the quality it tells nothing"
    assert other not in str(items), "what chooses layers by samples makes another size"

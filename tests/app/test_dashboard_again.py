"""A job is changed and run again: forms hold all that was asked for."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from app.domain.jobs import JobRequest
from app.domain.methods import methods
from app.domain.steps import METHODS
from app.store.tables import JobRow
from app.web.dashboard.draft import MORE, of_method, of_request, typed, values
from app.web.dashboard.forms import Field
from tests.app.people import filled, read
from tests.app.service import Service

BESIDE_STEPS: dict[str, Any] = {
    "name": "mine",
    "tags": ["a tag", "another"],
    "evaluate": {"metric": "top5", "output": "y"},
    "require": {"max_quality_drop": 0.0123456789},
    "deliver": ["onnx", "openvino"],
    "webhook": {"url": "https://example.com/hook"},
    "limits": {"pending_minutes": 5.0, "running_minutes": 7.5},
    "priority": 3,
    "requires": {"device": "cpu", "labels": ["here"]},
    "seed": 17,
}
STEPS: list[dict[str, Any]] = [
    {"method": "prune", "ratio": 0.3, "reconstruct": False, "ignore": ["conv", "*/head"]},
    {
        "method": "quantize",
        "mode": "qat",
        "per_channel": False,
        "learn_steps": False,
        "recover": {"epochs": 2, "loss": "teacher"},
    },
]
OBJECTIVE: dict[str, Any] = {
    "minimize": "size",
    "subject_to": {"max_quality_drop": 0.0375},
    "budget": {"trials": 7, "minutes": 2.5},
    "strategy": "random",
}


def distillation(teacher: str) -> list[dict[str, Any]]:
    """Return steps with parameters that are lists, and one that is a choice or a model."""
    losses = [{"kind": "features", "weight": 0.5}, {"kind": "attention"}]
    return [
        {"method": "distill", "teacher": teacher, "losses": losses},
        {"method": "prune", "granularity": "block", "block": [4, 8]},
    ]


def asked(service: Service, job_id: str) -> dict[str, Any]:
    """Return what a job was asked to do."""
    with service.store.begin() as session:
        return session.get_one(JobRow, job_id).request


def test_to_run_again_is_to_ask_for_all_that_was_asked_for(
    service: Service, person: httpx.Client
) -> None:
    for target in ("onnx", "openvino"):
        service.worker(target, labels=["here"])
    original = {"model": service.model(), "dataset": service.dataset(), **BESIDE_STEPS}
    for path, work in (
        ("/jobs/new", {"steps": STEPS}),
        ("/jobs/new", {"steps": STEPS, "target": "openvino-cpu"}),
        ("/jobs/new", {"steps": distillation(service.model())}),
        ("/jobs/new", {"steps": []}),
        ("/searches/new", {"steps": None, "objective": OBJECTIVE, "target": "openvino-cpu"}),
    ):
        job = service.job(**{**original, **work})["id"]
        link = f"{path}?like={job}"
        assert link in person.get(f"/jobs/{job}").text
        answer = person.post(path, data={**filled(person.get(link)), "do": "submit"})
        assert answer.status_code == 200, read(answer)
        assert "whsec_" in read(answer), "the secret of the new job's webhook is shown"
        again = service.http.get("/v1/jobs").json()["items"][0]["id"]
        assert again != job
        assert asked(service, again) == asked(service, job)
        for each in (job, again):
            service.http.post(f"/v1/jobs/{each}/cancel").raise_for_status()


def test_the_forms_have_a_field_for_every_part_of_a_request() -> None:
    elsewhere = {"model", "dataset", "data", "name", "steps", "objective", "require", "target"}
    measured = {"measure"}  # such a job has a page of its own
    assert {*MORE} | elsewhere | measured == JobRequest.model_fields.keys()


def with_parts(known: Mapping[str, Field]) -> Iterator[Field]:
    """Yield fields, and those inside of them."""
    for each in known.values():
        yield each
        yield from with_parts(each.parts)


def test_every_field_of_a_form_has_a_title_of_words_and_a_sentence() -> None:
    of_methods = [of_method(method.method) for method in methods()]
    for known in (of_request(MORE), of_request(("target", "require")), *of_methods):
        for field in with_parts(known):
            assert field.description, field
            assert re.fullmatch(r"[A-Z][a-z0-9 ,]+", field.title), field


def test_every_default_of_every_method_is_typed_and_read_back() -> None:
    for method in methods():
        defaults = {
            name: about["default"]
            for name, about in method.json_schema["properties"].items()
            if name != "method" and about.get("default") not in (None, [])
        }
        known = of_method(method.method)
        read = values(known, typed(known, defaults))
        step = next(each for each in METHODS if each.title == method.title)
        assert step.model_validate(read) == step.model_validate({"method": method.method})


def test_a_metric_is_chosen_by_its_name_or_is_a_model() -> None:
    known = of_request(("evaluate",))
    for metric in ("top5", {"model": "mdl_mine"}):
        given = {"evaluate": {"metric": metric}}
        assert values(known, typed(known, given)) == given


def test_a_row_that_was_passed_over_is_refused_at_its_place(
    service: Service, person: httpx.Client
) -> None:
    form = filled(person.get("/jobs/new", params={"model": service.model(), "step": "distill"}))
    second = {"steps.0.losses.1.kind": "features", "do": "submit"}
    answer = person.post("/jobs/new", data={**form, **second})
    assert answer.status_code == 422
    words = "Step 1, What it learns from, Entry 1, What is compared: is required"
    assert words in read(answer)


def test_a_fault_inside_a_part_stands_beside_its_field(
    service: Service, person: httpx.Client
) -> None:
    form = filled(person.get("/jobs/new", params={"model": service.model(), "step": "quantize"}))
    wrong = {"more.limits.running_minutes": "-1", "steps.0.recover.epochs": "many"}
    answer = person.post("/jobs/new", data={**form, **wrong, "do": "submit"})
    assert answer.status_code == 422
    for name, words in zip(wrong, ("must be more than 0", "must be a whole number"), strict=True):
        field = re.search(rf'name="{name}".*?role="alert"><bdi>(.*?)<', answer.text, re.DOTALL)
        assert field is not None
        assert words in field[1]
    assert answer.text.count("<details open>") == 4, "nobody has to look for it"
    sent = filled(answer)
    assert {name: sent[name] for name in wrong} == wrong, "nothing typed is lost"
    deep = person.post(
        "/jobs/new", data={**form, "more.evaluate.metric": "[" * 5000, "do": "submit"}
    )
    assert deep.status_code == 422
    mended = person.post("/jobs/new", data={**form, "steps.0.mode": "dynamic", "do": "submit"})
    assert mended.status_code == 303, "what was refused is not held against the page's key"


def test_a_wish_that_makes_no_request_is_no_fault_of_ours(
    service: Service, person: httpx.Client
) -> None:
    form = filled(person.get("/jobs/new", params={"model": service.model()}))
    for wrong, words in (
        ({"max_quality_drop": "-1"}, "Quality may drop by: must be 0 or more"),
        ({"max_quality_drop": "one percent"}, "Quality may drop by: 'one percent' is no share"),
        ({"dataset": "d" * 65}, "Data: must have 64 characters at most"),
    ):
        answer = person.post("/jobs/new", data={**form, **wrong})
        assert answer.status_code == 200
        assert words in read(answer)


@pytest.mark.parametrize("path", ["/jobs/new", "/searches/new", "/keys", "/webhooks"])
def test_a_form_with_a_character_that_no_column_takes_is_refused(
    person: httpx.Client, path: str
) -> None:
    form = filled(person.get(path))
    for field in ("model", "dataset", "name", "url"):
        assert person.post(path, data={**form, field: "a\0b"}).status_code == 400


def test_a_step_that_is_not_there_is_not_moved(service: Service, person: httpx.Client) -> None:
    form = filled(person.get("/jobs/new", params={"model": service.model(), "step": "quantize"}))
    for where in ("1", "-1", "one", "9" * 5000):
        answer = person.post("/jobs/new", data={**form, "do": f"remove:{where}"})
        assert answer.status_code == 200
        assert filled(answer)["steps.0.method"] == "quantize"


def test_sub_networks_are_said_not_to_suit_a_model_without_residual_blocks(
    service: Service, person: httpx.Client
) -> None:
    words = "it is for networks of residual blocks"
    page = read(person.get(f"/models/{service.model(blocks=0)}"))
    assert page.count(words) == 2
    assert words not in read(person.get(f"/models/{service.model(blocks=4)}"))

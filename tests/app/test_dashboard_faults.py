"""What the form of a job says of entries that are wrong, missing or hardly meant."""

import re
from html import unescape

import httpx

from tests.app.people import read, send
from tests.app.service import Service


def test_what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    typed = {"steps.0.method": "prune", "steps.0.ratio": "seven", "steps.0.block": "{not json"}
    answer = send(person, "/jobs/new", do="submit", model=model, name="mine", **typed)
    assert answer.status_code == 422
    for text in ("seven", "{not json", "mine"):
        assert text in answer.text
    field = re.search(r'name="steps.0.ratio".*?role="alert"><bdi>(.*?)<', answer.text, re.DOTALL)
    assert field is not None
    assert "must be a number" in unescape(field[1])
    assert "Step 1, Share to remove: must be a number" in read(answer)
    assert "#/" not in read(answer), "no page shows a JSON pointer"


def test_what_is_missing_is_said_at_its_field_in_the_words_of_the_form(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    half = person.get("/jobs/new", params={"model": model, "goal": "half"}).text
    choose = "Choose data, or “made from the model”: step 1 needs samples."
    assert _wrong(half, "#/dataset") == choose
    assert "choose one in “Data”, have it made" in _wrong(half, "#/steps/0")
    sent = {"model": model, "steps.0.method": "quantize", "steps.0.mode": "static"}
    assert _wrong(send(person, "/jobs/new", do="submit", **sent).text, "#/dataset") == choose
    assert "This will run" not in half
    assert "'dataset'" not in half
    made = {"model": model, "dataset": "generated", "goal": "half"}
    assert _wrong(person.get("/jobs/new", params=made).text, "#/dataset") == ""
    nothing = send(person, "/jobs/new", do="submit", model=model).text
    assert "name a step, or another format" in _wrong(nothing, "#/steps")
    assert "Model: is required" in read(send(person, "/jobs/new", do="submit"))


def test_a_field_of_a_step_is_not_called_as_one_of_the_form(
    person: httpx.Client, service: Service
) -> None:
    asked = {"steps.0.method": "distill", "steps.0.student.width": "0.5"}
    page = send(person, "/jobs/new", do="plan", model=service.model(), **asked).text
    words = "must have one of the fields 'architecture', 'model' and 'derive'"
    assert words in _wrong(page, "#/steps/0/student")


def test_nothing_is_promised_of_what_is_still_being_looked_at(
    person: httpx.Client, service: Service
) -> None:
    inspecting = service.http.post("/v1/models", content=b"new" * 9).json()["id"]
    metric = {"more.evaluate.metric.model": inspecting, "dataset": service.dataset()}
    for asked in ({"model": inspecting}, {"model": service.model(), **metric}):
        sent = {**asked, "steps.0.method": "quantize"}
        page = read(send(person, "/jobs/new", do="plan", **sent))
        assert "Nothing speaks against it so far" in page
        assert "This will run" not in page


def test_nonsense_is_not_said_to_work(person: httpx.Client, service: Service) -> None:
    asked = {"model": service.model(), "dataset": service.dataset(), "steps.0.method": "quantize"}

    def planned(**more: str) -> str:
        return send(person, "/jobs/new", do="plan", **asked, **more).text

    nothing = planned(**{"steps.0.operators": "Foo"})
    assert "Nothing will change" in nothing
    assert "This will run" not in nothing
    assert "has no operator 'Foo'" in _wrong(nothing, "#/steps/0/operators")
    absent = planned(**{"steps.0.ignore": "/nothing/*"})
    assert "no layer of the model is called '/nothing/*'" in _wrong(absent, "#/steps/0/ignore")
    loose = planned(max_quality_drop="50")
    assert "Write 0.5 for 50 %." in _wrong(loose, "#/require/max_quality_drop")
    assert "aria-invalid" not in loose, "what is doubtful is taken"
    assert _wrong(planned(max_quality_drop="50 %"), "#/require/max_quality_drop") == ""


def test_an_entry_that_is_wrong_is_named(person: httpx.Client, service: Service) -> None:
    asked = {"model": service.model(), "steps.0.method": "prune", "do": "submit"}
    long = "t" * 65
    typed = {"steps.0.block": "4,b", "more.deliver": "foo", "more.tags": f"a\n{long}"}
    page = send(person, "/jobs/new", **asked, **typed).text
    assert _wrong(page, "#/steps/0/block") == "“b” must be a whole number, such as 4"
    assert _wrong(page, "#/tags") == f"“{long[:40]}…” must have 64 characters at most"
    assert "“foo” is no format" in _wrong(page, "#/deliver")
    assert "One a line: onnx." in page
    for name in ("steps.0.block", "more.deliver", "more.tags"):
        assert re.search(rf'name="{name}"[^>]* aria-invalid="true"', page), name
    assert f"Tags, “{long[:40]}…”: must have" in unescape(page)
    assert "Choose a step, and this says" in read(person.get("/jobs/new?model=" + asked["model"]))


def test_a_share_is_typed_as_a_number_or_in_percent(person: httpx.Client, service: Service) -> None:
    asked = {"model": service.model(), "steps.0.method": "prune", "do": "submit"}
    sent = send(person, "/jobs/new", **{**asked, "steps.0.ratio": "30 %"})
    job = service.http.get(f"/v1{sent.headers['location']}").json()
    assert job["steps"][0]["ratio"] == 0.3
    for text in ("0,3", "a third"):
        wrong = send(person, "/jobs/new", **{**asked, "steps.0.ratio": text}).text
        assert "must be a number, such as 0.01" in _wrong(wrong, "#/steps/0/ratio")
        assert "More than 0, less than 1. 0.05 and 5 % are the same." in unescape(wrong)


def test_bounds_that_a_form_names_are_taken(person: httpx.Client, service: Service) -> None:
    page = person.get("/jobs/new").text
    assert "0 to 4294967295." in page
    asked = {"model": service.model(), "steps.0.method": "cluster", "do": "submit"}
    assert send(person, "/jobs/new", **{"more.seed": "4294967295"}, **asked).status_code == 303
    wrong = send(person, "/jobs/new", **{"more.seed": "4294967296"}, **asked).text
    assert "must be 4294967295 at most" in _wrong(wrong, "#/seed")


def _wrong(page: str, place: str) -> str:
    """Return what is said to be wrong at a place of a form."""
    found = re.search(rf'<div [^>]*data-wrong="{place}">(.*?)</div>', page, re.DOTALL)
    assert found is not None, place
    return re.sub("<[^>]*>", "", unescape(found[1]))

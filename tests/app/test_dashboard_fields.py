"""Fields of forms: what is said beside them is heard with them, in the words of the form."""

from html.parser import HTMLParser
from typing import Any

import httpx

from app.store.tables import DatasetRow, ModelRow
from tests.app.people import read, send
from tests.app.service import Service

SPARE = [
    {"name": "x", "dtype": "float32", "shape": [100, 3, 32, 32]},
    {"name": "labels", "dtype": "int64", "shape": [100]},
]
"""The arrays of data whose right answers are not called so."""


class Fields(HTMLParser):
    """The controls of a page, and the words that describe each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: dict[str, str] = {}
        """By the ids of what has some."""
        self.controls: dict[str, dict[str, str]] = {}
        """By their names, their attributes."""
        self.described: list[str] = []
        self.options: dict[str, list[str]] = {}
        """Of each list, by its name."""
        self._inside: list[tuple[str, str]] = []
        self._choosing = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            assert given["id"] not in self.words, "an id is there once"
            self.words[given["id"]] = ""
        if tag in {"div", "small", "p"}:
            self._inside.append((tag, given.get("id", "")))
        if tag in {"input", "select", "textarea"} and given.get("type") != "hidden":
            self.controls[given.get("name", "")] = given
            self._choosing = given.get("name", "")
        if tag == "option":
            self.options.setdefault(self._choosing, []).append("")
        self.described += given.get("aria-describedby", "").split()

    def handle_endtag(self, tag: str) -> None:
        self._choosing = "" if tag == "select" else self._choosing
        while tag in {"div", "small", "p"} and self._inside and self._inside.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for _, place in self._inside:
            if place:
                self.words[place] += data
        if self._choosing in self.options:
            self.options[self._choosing][-1] += data.strip()

    def heard(self, name: str) -> str:
        """Return what describes a control, as a screen reader says it."""
        named = self.controls[name]["aria-describedby"].split()
        return " ".join(" ".join(self.words[each].split()) for each in named).strip()


def planned(person: httpx.Client, path: str = "/jobs/new", **typed: str) -> Fields:
    return Fields(send(person, path, do="plan", **typed).text)


def test_what_is_wrong_or_doubtful_is_heard_with_its_field(
    person: httpx.Client, service: Service
) -> None:
    asked = {"model": service.model(), "dataset": service.dataset(), "steps.0.method": "quantize"}
    page = planned(person, **asked, **{"steps.0.ignore": "/nothing/*", "more.seed": "-1"})
    assert page.heard("more.seed").endswith("must be 0 or more")
    assert page.controls["more.seed"]["aria-invalid"] == "true"
    page = planned(person, **asked, **{"steps.0.ignore": "/nothing/*"})
    heard = page.heard("steps.0.ignore")
    assert heard.startswith("Nodes to leave alone: names or patterns")
    assert "is called '/nothing/*', as “Layers to leave alone” has it" in heard
    assert "aria-invalid" not in page.controls["steps.0.ignore"], "what is doubtful is taken"
    assert set(page.described) <= page.words.keys(), "what describes a control is there"


def test_every_form_names_what_describes_its_fields(person: httpx.Client, service: Service) -> None:
    failing = [
        planned(person, "/searches/new", model=service.model(), at_once="-1", trials="0"),
        Fields(send(person, "/webhooks", url="https://example.com/hook").text),
        Fields(send(person, "/keys", name="ci").text),
        Fields(person.post("/login", data={"key": "wrong"}).text),
    ]
    for page in failing:
        assert set(page.described) <= page.words.keys()
    search, webhooks, keys, login = failing
    assert search.heard("at_once").endswith("must be 1 or more")
    assert search.heard("trials").endswith("must be 1 or more")
    assert webhooks.heard("events") == "Choose at least one event."
    assert keys.heard("scopes") == "Choose what the key may do: read, write or both."
    assert "key" in login.heard("key")
    for page, name in zip(failing, ("at_once", "events", "scopes", "key"), strict=True):
        assert page.controls[name]["aria-invalid"] == "true"


def test_a_field_has_one_name_on_its_form_and_in_sentences(
    person: httpx.Client, service: Service
) -> None:
    form = {"model": service.model(), "at_once": "-1", "strategy": "luck"}
    page = read(send(person, "/searches/new", **form))
    assert "Trials at once: must be 1 or more" in page
    assert "How the next one is chosen: must be one of" in page
    assert "Objective" not in page


def test_other_uploads_are_chosen_from_lists_as_the_model_and_the_data_are(
    person: httpx.Client, service: Service
) -> None:
    model, teacher = service.model(), service.model(b"teacher" * 50)
    data, judging = service.dataset(), service.dataset(b"judging" * 50)
    with service.store.begin() as session:
        session.get_one(ModelRow, teacher).name = "the teacher"
        session.get_one(DatasetRow, judging).name = "unseen"
    asked = {"model": model, "dataset": data, "steps.0.method": "distill"}
    others = {"steps.0.teacher": teacher, "more.evaluate.dataset": judging}
    page = planned(person, **asked, **others)
    assert set(page.described) <= page.words.keys()
    for name in ("steps.0.teacher", "steps.0.student.model", "more.evaluate.metric.model"):
        assert "the teacher" in page.options[name], name
    assert page.options["steps.0.teacher"][:3] == ["default: original", "original", "previous"]
    assert page.options["more.evaluate.dataset"] == ["none", *page.options["dataset"][2:]]
    job = send(person, "/jobs/new", do="submit", **asked, **others).headers["location"]
    request = service.http.get(f"/v1{job}").json()
    assert (request["steps"][0]["teacher"], request["evaluate"]["dataset"]) == (teacher, judging)
    gone = planned(person, **asked, **{"steps.0.student.model": "mdl_gone"})
    assert "mdl_gone (not here)" in gone.options["steps.0.student.model"], "no choice is lost"
    assert gone.heard("steps.0.student.model").endswith("There is no model 'mdl_gone'.")


def test_one_sentence_says_that_no_operator_is_there(
    person: httpx.Client, service: Service
) -> None:
    asked = {"model": service.model(), "steps.0.method": "quantize", "steps.0.operators": "Foo"}
    page = read(send(person, "/jobs/new", do="plan", **asked))
    assert "Nothing will change" in page
    said = "Step 1 (Quantization) will change nothing: the model has no operator 'Foo'."
    assert page.count(said) == 2, "beside the field, and in the plan"
    assert "the file gets smaller" not in page
    assert "is not among the operators to quantize;" not in page


def test_a_step_that_leaves_all_alone_says_so_at_its_place(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    asked = {"model": model, "steps.0.method": "quantize", "steps.0.ignore": "*"}
    page = planned(person, **asked)
    said = "Step 1 (Quantization) will change nothing: named in “Layers to leave alone”."
    assert page.words["told:#/steps/0"] == said
    other = service.model(b"quantized" * 30, operators={"QLinearConv": 1})
    already = {"model": other, "steps.0.method": "quantize"}
    assert "so steps may change nothing" in planned(person, **already).heard("model")
    shown = read(send(person, "/jobs/new", do="plan", **already))
    assert "This will run, and may not do what is meant:" in shown


def test_the_right_answers_are_looked_for_by_their_name(
    person: httpx.Client, service: Service
) -> None:
    model = service.model()
    data = service.dataset(targets=None, arrays=SPARE)
    page = planned(person, model=model, dataset=data, **{"steps.0.method": "quantize"})
    for said in (page.heard("dataset"), read(person.get(f"/datasets/{data}"))):
        assert "The right answers are looked for under the name" in said
        assert "if it holds the right answers, call it" in said
        assert "labels" in said
    alone = service.dataset(b"alone" * 50, targets=None)
    page = planned(person, model=model, dataset=alone, **{"steps.0.method": "quantize"})
    assert page.heard("dataset") == ""
    shown = read(person.get(f"/datasets/{alone}"))
    assert "are looked for under the name" in shown
    assert "if it holds" not in shown
    labelled = service.dataset(b"labelled" * 50)
    assert "are looked for" not in read(person.get(f"/datasets/{labelled}"))


def test_a_refusal_calls_uploads_by_their_names(person: httpx.Client, service: Service) -> None:
    service.worker("source")
    model, teacher = service.model(), service.model(b"teacher" * 50, outputs=[])
    with service.store.begin() as session:
        session.get_one(ModelRow, teacher).name = "the teacher"
    asked: dict[str, Any] = {"model": model, "dataset": service.dataset()}
    kept = {"steps.0.method": "prune", "steps.0.granularity": "unstructured"}
    page = planned(person, **asked, **kept, **{"more.deliver": "source"})
    said = page.heard("more.deliver").partition("One a line: source.")[2]
    assert said.strip().startswith("The model was uploaded as ONNX")
    taught = {"steps.0.method": "distill", "steps.0.teacher": teacher}
    assert "Model “the teacher” has other outputs" in planned(person, **asked, **taught).heard(
        "steps.0.teacher"
    )

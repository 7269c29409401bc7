"""The page of a report: it shows everything and runs nothing."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest

from tests.app.reporting import BROWSER, Parsed, finished, page, path, reported
from tests.app.service import (
    DYNAMIC,
    EVALUATION,
    FIDELITY,
    MANIFEST,
    MEASURES,
    STEP_REPORT,
    Service,
)

HOSTILE = (
    "<script>document.title='ran'</script>",
    "</style></title></pre><script>1</script>",
    "\"'><img src=https://example.com/x onerror=alert(1)>",
    "{{ 7 * 191 }}{% raw %}",
    "\u202etxt.exe\u202e عربي",
    "&lt;b&gt; &amp;amp;",
    "javascript:alert(1)",
)


def hostile(service: Service) -> str:
    """A job whose every name is an attack."""
    job = finished(service, name=HOSTILE[0])
    layer, skipped = STEP_REPORT["layers"][0], {"node": "n", "reason": "r"}
    step = {
        **STEP_REPORT,
        "method": HOSTILE[1],
        "parameters": {name: [name] for name in HOSTILE},
        "layers": [{**layer, "node": name, "operator": name, "change": name} for name in HOSTILE],
        "skipped": [{**skipped, "node": name, "reason": name} for name in HOSTILE],
    }
    evaluation = {**EVALUATION, "runtime": HOSTILE[2], "notes": list(HOSTILE)}
    evaluation["sample_sizes"] = dict.fromkeys(HOSTILE, 7)
    machine = {**MANIFEST["machine"], "processor": HOSTILE[1]}  # type: ignore[dict-item]
    manifest = {**MANIFEST, "artifacts": dict.fromkeys(HOSTILE, "1" * 64), "machine": machine}
    reported(
        service, job, step, evaluation=evaluation, manifest=manifest, verdict=" ".join(HOSTILE)
    )
    return job


def test_hostile_names_are_text_and_nothing_else(service: Service) -> None:
    plain = Parsed(page(service, finished(service)))
    text = page(service, hostile(service))
    shown = Parsed(text)
    assert {name for name, _ in shown.elements} == {name for name, _ in plain.elements}
    assert not {"script", "img", "iframe", "link"} & {name for name, _ in shown.elements}
    for name in HOSTILE:
        assert name in shown.text("main")
    assert HOSTILE[0] in shown.text("title")


def test_names_of_the_user_cannot_turn_the_direction_of_the_text_around_them(
    service: Service,
) -> None:
    shown = Parsed(page(service, hostile(service)))
    everywhere = shown.text("main").count("\u202e")
    assert everywhere > 0
    inside = re.findall("\u2068(.*?)\u2069", shown.text("main"), re.DOTALL)
    isolated = "".join([*shown.texts["bdi"], *shown.texts["code"], *shown.texts["pre"], *inside])
    assert isolated.count("\u202e") == everywhere


def test_the_page_needs_nothing_from_elsewhere_and_lets_nothing_run(
    service: Service, job: str
) -> None:
    answer = service.http.get(path(job), headers={"Accept": BROWSER})
    shown = Parsed(answer.text)
    for _, attributes in shown.elements:
        assert not {"src", "action", "srcset", "style"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in shown.text("style")
    assert "@import" not in shown.text("style")
    [policy] = [
        attributes["content"]
        for name, attributes in shown.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert answer.headers["content-security-policy"] == policy
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_tables_have_headings_and_headings_have_an_order(service: Service, job: str) -> None:
    shown = Parsed(page(service, job))
    names = [name for name, _ in shown.elements]
    assert names.count("h1") == 1
    levels = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(
        attributes["scope"] in {"col", "row"} for name, attributes in shown.elements if name == "th"
    )
    regions = [attributes for _, attributes in shown.elements if attributes.get("role") == "region"]
    assert len(regions) == names.count("table") + shown.text("main").count("Click a bar")
    assert all(region.get("aria-label") or region.get("aria-labelledby") for region in regions)
    assert ("html", {"lang": "en"}) in shown.elements


def test_the_page_shows_each_figure_and_how_it_came(service: Service, job: str) -> None:
    text = Parsed(page(service, job)).text("main")
    for said in (
        "3 times faster",
        "3.33× smaller",
        "98.00 %",
        "31.0 dB",
        "3 held-out samples that no step has seen, as top1",
        "onnxruntime 1.32.0, CPUExecutionProvider, 2 threads",
        "dimension N was measured as 1",
        "slower in int8",
        "4.00× smaller",
        "40.0",
    ):
        assert said in text, said


def test_figures_say_for_which_sizes_of_a_sample_they_hold(service: Service, job: str) -> None:
    assert "for one sample" in Parsed(page(service, job)).text("main")
    assert "for one sample with" not in Parsed(page(service, job)).text("main")
    sizes = {"sample_sizes": {"height": 48, "width": 640}}
    reported(service, job, STEP_REPORT, evaluation={**EVALUATION, **sizes})
    shown = Parsed(page(service, job)).text("main")
    assert "for one sample with height = 48, width = 640" in shown
    assert "of one sample with height = 48, width = 640" in shown


def test_a_bar_leads_to_the_row_of_its_layer(service: Service, job: str) -> None:
    reported(service, job, STEP_REPORT)
    shown = Parsed(page(service, job))
    links = [attributes["href"] for name, attributes in shown.elements if name == "a"]
    rows = [attributes["id"] for name, attributes in shown.elements if name == "tr" and attributes]
    assert links == [f"#{row}" for row in rows] == ["#layer-1"]


def test_five_hundred_layers_come_to_a_row_for_each_operator(service: Service, job: str) -> None:
    layer = STEP_REPORT["layers"][0]
    layers = [
        {**layer, "node": f"n{i}", "operator": ("Conv", "Gemm")[i % 2], "sqnr_db": 20 + i}
        for i in range(500)
    ]
    reported(service, job, {**STEP_REPORT, "layers": layers})
    text = page(service, job)
    shown = Parsed(text)
    assert "500 changed nodes, one by one" in shown.text("summary")
    assert re.search(
        r"Conv.*250.*1\.00 MB.*250 kB.*4\.00× smaller.*n0.*20\.0", text.replace("\n", "")
    )
    assert len(text) < 500_000


def test_a_job_without_data_says_that_quality_is_unknown(service: Service, job: str) -> None:
    bare = {**MEASURES, "quality": None, "latency_ms": None}
    evaluation = {
        **EVALUATION, "metric": None, "split": "synthetic", "indices": [], "latency": None,
    }  # fmt: skip
    reported(service, job, STEP_REPORT, baseline=bare, compressed=bare, evaluation=evaluation)
    text = Parsed(page(service, job)).text("main")
    assert "No dataset was given" in text
    assert "Latency" not in text


@pytest.mark.parametrize(
    ("metric", "before", "after", "said"),
    [
        ("top1", 0.9, 0.875, "−2.50 points"),
        ("f1", 0.5, 0.51, "+1.00 points"),
        ("mse", 0.1, 0.12, "+20.0 %"),
        ("mae", 0.1, 0.1, "unchanged"),
        ("cer", 0.1, 0.12, "+2.00 points"),
        ("r2", 0.9, 0.88, "−2.00 points"),
    ],
)
def test_a_change_of_quality_is_in_the_metric_s_own_unit(
    service: Service, job: str, metric: str, before: float, after: float, said: str
) -> None:
    measures = [
        {**MEASURES, "quality": {"metric": metric, "value": value, "samples": 20}}
        for value in (before, after)
    ]
    reported(service, job, STEP_REPORT, baseline=measures[0], compressed=measures[1])
    assert said in Parsed(page(service, job)).text("main")


@pytest.mark.parametrize("certain", [True, False])
def test_a_step_says_how_fast_it_is_where_that_could_be_told(
    service: Service, job: str, *, certain: bool
) -> None:
    step = {**STEP_REPORT, "after": {**MEASURES, "latency_ms": MEASURES["latency_ms"] / 2}}
    latency = {**EVALUATION["latency"], "certain": certain}
    reported(service, job, step, evaluation={**EVALUATION, "latency": latency})
    text = Parsed(page(service, job)).text("main")
    assert ("latency 2.00× faster" in text) == certain


def test_the_request_on_the_page_asks_for_the_same_job_again(service: Service, job: str) -> None:
    manifest = {**MANIFEST, "steps": DYNAMIC}
    reported(service, job, STEP_REPORT, manifest=manifest)
    shown = Parsed(page(service, job))
    body = json.loads(shown.text("request"))
    again = service.http.post("/v1/jobs", json=body)
    assert again.status_code == 202, again.text
    first = service.http.get(f"/v1/jobs/{job}").json()
    for name in ("model", "dataset", "evaluate", "require", "deliver", "seed"):
        assert again.json()[name] == first[name]
    assert json.loads(shown.text("manifest")) == manifest


@pytest.mark.parametrize(("bounded", "first"), [("agreement", "98.00 %"), ("explained", "97.00 %")])
def test_what_is_bounded_stands_first_and_the_worst_channel_is_named(
    service: Service, job: str, bounded: str, first: str
) -> None:
    after = {**MEASURES, "quality": None, "fidelity": {**FIDELITY, "bounded": bounded}}
    reported(service, job, STEP_REPORT, compressed=after)
    text = Parsed(page(service, job)).text("main")
    least = "below 0 %" if bounded == "agreement" else "nothing"
    assert f"least in channel 3 of '<b>y</b>': {least}, all others keep 99.00 %" in text
    headline = text[: text.index("Before and after")]
    assert first in headline
    assert ("Same answers" in headline, "Variance kept" in headline) == (
        bounded == "agreement",
        bounded == "explained",
    )


@pytest.mark.parametrize(
    ("agreement", "tells"), [(1.0, "this tells nothing"), (0.0, "the result gives others")]
)
def test_outputs_that_are_noise_are_shown_where_all_answers_are_one(
    service: Service, job: str, agreement: float, tells: str
) -> None:
    """A classifier on random inputs: equal answers tell nothing, and others do."""
    scores = {**FIDELITY, "agreement": agreement, "explained": -520.0, "worst": None}
    fidelity = {**scores, "commonest": 1.0, "bounded": "explained"}
    reported(
        service, job, STEP_REPORT, compressed={**MEASURES, "quality": None, "fidelity": fidelity}
    )
    shown = page(service, job)
    text = Parsed(shown).text("main")
    headline = text[: text.index("Before and after")]
    assert "Variance kept nothing" in " ".join(headline.split())
    assert "Same answers" not in headline
    assert f"one and the same for all samples: {tells}" in text
    assert 'class="verdict bad"' in shown


def test_scores_of_unlikely_classes_are_no_bad_news_where_answers_vary(
    service: Service, job: str
) -> None:
    scores = {**FIDELITY, "agreement": 0.976, "explained": -520.0, "commonest": 0.7}
    after = {**MEASURES, "quality": None, "fidelity": {**scores, "bounded": "agreement"}}
    reported(service, job, STEP_REPORT, compressed=after)
    shown = page(service, job)
    text = Parsed(shown).text("main")
    headline, table = text.split("Before and after", 1)
    assert "97.60 %" in headline
    assert "Variance" not in headline
    assert "below 0 %" in table
    assert "nothing" not in table
    assert 'class="verdict good"' in shown


@pytest.mark.parametrize(("agreement", "tone"), [(0.995, "good"), (0.833, "warn")])
def test_more_than_a_step_meant_to_lose_is_no_good_news(
    service: Service, job: str, agreement: float, tone: str
) -> None:
    fidelity = {**FIDELITY, "agreement": agreement, "samples": 6}
    after = {**STEP_REPORT["after"], "quality": None, "fidelity": fidelity}
    reported(service, job, {**STEP_REPORT, "own_bound": 0.01}, compressed=after)
    shown = page(service, job)
    assert f'class="verdict {tone}"' in shown
    assert "as the original gives, of 6 samples only" in Parsed(shown).text("main")


def test_notes_of_steps_stand_apart_from_the_verdict(service: Service, job: str) -> None:
    reported(service, job, STEP_REPORT, verdict="It is small.\nStep 1 (prune): it cut little.")
    shown = page(service, job)
    assert "<p><bdi>It is small.</bdi></p>" in shown
    assert '<p class="note"><bdi>Step 1 (prune): it cut little.</bdi></p>' in shown


def test_times_have_the_digits_that_tell_them_apart_and_the_words_of_the_verdict(
    service: Service, job: str
) -> None:
    before = {**MEASURES, "latency_ms": 0.00649, "parameters": 5_250_000}
    after = {**before, "latency_ms": 0.00601, "parameters": 5_270_000}
    latency = {**EVALUATION["latency"], "speedup": 1.08, "speedup_low": 1.07, "speedup_high": 1.09}
    evaluation = {**EVALUATION, "latency": latency}
    reported(service, job, STEP_REPORT, baseline=before, compressed=after, evaluation=evaluation)
    text = " ".join(Parsed(page(service, job)).text("main").split())
    assert "0.00649 ms → 0.00601 ms" in text
    assert "1.08× faster" in text
    assert text.count("hardly changed") == 1, "5.25 M parameters became 5.27 M"
    same = {**latency, "speedup": 1.014, "speedup_low": 1.01, "speedup_high": 1.02}
    reported(service, job, STEP_REPORT, evaluation={**EVALUATION, "latency": same})
    assert "the same speed" in Parsed(page(service, job)).text("main")


def test_noise_beside_a_metric_is_no_bad_news(service: Service, job: str) -> None:
    """Of a softmax over thousands of classes rounding leaves nothing, and each answer right."""
    after = {**MEASURES, "fidelity": {**FIDELITY, "agreement": 1.0, "explained": -40.0}}
    reported(service, job, STEP_REPORT, compressed=after)
    shown = page(service, job)
    assert "Variance kept" in Parsed(shown).text("main")
    assert 'class="verdict warn"' not in shown


def test_a_report_from_before_the_figure_is_still_read(service: Service, job: str) -> None:
    old = {"sqnr_db": 31.0, "agreement": 0.98}
    reported(service, job, STEP_REPORT, compressed={**MEASURES, "fidelity": old})
    found = service.http.get(path(job)).json()["compressed"]["fidelity"]
    added: dict[str, Any] = {
        "explained": None, "worst": None, "commonest": None, "bounded": "agreement",
        "samples": None, "beside": None,
    }  # fmt: skip
    assert found == {**old, **added}
    assert "98.00 %" in Parsed(page(service, job)).text("main")


def test_a_page_draws_what_a_step_chose_from(service: Service, job: str) -> None:
    choices = [
        {"title": "all in integers", "size_bytes": 1000, "speedup": 2.5, "lost": 0.03},
        {"title": HOSTILE[0], "size_bytes": 1200, "speedup": 2, "lost": 0.01, "chosen": True},
    ]
    price = {
        "node": HOSTILE[2], "lost": 0.02, "gain": 0.1, "unit": "time", "priced_together": 2,
        "bytes_saved": 100, "time_saved": 0.1,
    }  # fmt: skip
    prices = [{**price, "form": "static", "quantized": quantized} for quantized in (True, False)]
    reported(service, job, {**STEP_REPORT, "choices": choices, "prices": prices})
    report = service.http.get(path(job)).json()["step_reports"][0]
    assert (report["choices"][1], report["prices"]) == ({**choices[1], "lost_error": None}, prices)
    shown = Parsed(page(service, job))
    drawn = [element for element, _ in shown.elements]
    assert drawn.count("circle") == 2 * len(choices)
    assert "10.0 % of the time" in shown.text("main")
    assert HOSTILE[0] in shown.text("main")
    assert all(attributes.get("src") is None for _, attributes in shown.elements)


def test_a_change_of_quality_says_what_it_may_be_on_other_samples(
    service: Service, job: str
) -> None:
    after = {**MEASURES, "quality": {"metric": "top1", "value": 0.88, "samples": 159}}
    drop = {"low": -0.008, "high": 0.0334}
    reported(service, job, STEP_REPORT, compressed=after, evaluation={**EVALUATION, "drop": drop})
    text = " ".join(Parsed(page(service, job)).text("main").split())
    assert "−2.00 points" in text
    assert text.count("on other samples between −3.34 and +0.80 points") == 2, "tile and table"


def test_a_size_that_the_file_has_no_name_for_is_said_to_be_where_it_is(
    service: Service, job: str
) -> None:
    read = [{"name": "x", "dtype": "float32", "shape": [1, 3, 48]}]
    sizes = {"sample_sizes": {"x_2": 48, "n": 7}, "run": {"inputs": read, "samples": 1}}
    reported(service, job, STEP_REPORT, evaluation={**EVALUATION, **sizes})
    shown = Parsed(page(service, job)).text("main")
    assert "for one sample with n = 7, x_2 = 48 (size 3 of x)" in shown


def test_speed_that_tidying_brings_has_a_row_of_its_own(service: Service, job: str) -> None:
    latency = EVALUATION["latency"]
    tidied = {**latency, "speedup": 1.2, "speedup_low": 1.19, "speedup_high": 1.21}
    del tidied["one_thread"]
    both = {**latency, "tidied": tidied, "one_thread": {**tidied, "tidied": tidied}}
    evaluation = {**EVALUATION, "latency": both}
    reported(service, job, STEP_REPORT, evaluation=evaluation)
    text = " ".join(Parsed(page(service, job)).text("main").split())
    assert "tidying the graph alone, without any change of weights, makes it 1.20× faster" in text
    assert "Original, its graph tidied2 threads" in text
    assert "Original, its graph tidied1 thread" in text
    assert "1.20× (1.19 to 1.21)" in text

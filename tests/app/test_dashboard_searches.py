"""The pages of searches: one is asked for, looked at while it goes on, and a point is taken."""

import httpx

from tests.app.people import filled, form_token, read, send
from tests.app.searching import end, run, start, take_turn
from tests.app.service import Service


def test_a_search_is_asked_for_and_a_point_of_it_taken(
    service: Service, person: httpx.Client
) -> None:
    form = {"model": service.model(), "dataset": service.dataset(), "minimize": "size"}
    page = read(person.get("/searches/new", params=form))
    assert "Start the search" in page
    answer = send(person, "/searches/new", **form, trials="3", minutes="10", max_quality_drop="")
    assert answer.status_code == 303, answer.text
    job = answer.headers["location"]
    search_id = job.rsplit("/", 1)[1]
    take_turn(service, search_id)
    first = start(service)
    assert first is not None
    end(service, first, (0.5, -0.0125))
    take_turn(service, search_id)
    page = read(person.get(job))
    assert "1 of 3 trials are done" in page
    assert "50.0 %" in page
    assert "1.25 points gained" in page
    run(service, search_id)
    page = read(person.get(job))
    assert "Verdict" in page
    assert "Before and after" in page
    assert "a trial of a search" in read(person.get(f"/jobs/{first}"))
    taken = send(person, f"{job}/front/{first}/take")
    assert taken.status_code == 303
    assert "succeeded" in read(person.get(taken.headers["location"]))
    assert person.get(f"{job}/report").status_code == 200
    again = filled(person.get("/searches/new", params={"like": search_id}))
    assert (again["trials"], again["at_once"]) == ("3", "1")


def test_a_job_without_steps_is_not_called_a_search(service: Service, person: httpx.Client) -> None:
    service.worker("openvino")
    body = {"model": service.model(), "steps": [], "deliver": ["openvino"]}
    job = service.http.post("/v1/jobs", json=body).json()
    assert "Other formats" in read(person.get(f"/jobs/{job['id']}"))
    assert "Other formats" in read(person.get("/jobs"))


def test_what_is_wrong_with_a_search_is_said_where_it_is(
    service: Service, person: httpx.Client
) -> None:
    form = {"model": service.model(), "minimize": "size", "trials": "none", "minutes": "-1"}
    answer = send(person, "/searches/new", **form)
    assert answer.status_code == 422
    page = read(answer)
    assert "must be a whole number" in page
    assert "must be more than 0" in page


def test_a_search_on_samples_that_are_made_is_asked_for(
    service: Service, person: httpx.Client
) -> None:
    form = {"model": service.model(), "dataset": "generated", "minimize": "size"}
    page = person.get("/searches/new", params={**form, "max_quality_drop": "0.05"}).text
    assert '<option value="generated" selected>' in page
    assert 'value="0.05"' in page
    answer = send(person, "/searches/new", **form)
    assert answer.status_code == 303, answer.text
    job = service.http.get(f"/v1{answer.headers['location']}").json()
    assert (job["data"], job["dataset"]) == ("generated", None)


def test_a_search_says_what_it_will_do_before_it_begins(
    service: Service, person: httpx.Client
) -> None:
    form = {"model": service.model(), "minimize": "macs", "max_quality_drop": "2 %", "trials": "7"}
    page = person.get("/searches/new")
    assert "By crossing the best ones (NSGA-II)" in read(page)
    assert '<option value="macs">multiplications</option>' in page.text
    planned = read(send(person, "/searches/new", **form, do="plan"))
    assert "7 pipelines of steps are tried at most" in planned
    assert "least multiplications of those whose quality drops by 0.02 at most" in planned
    assert "This will run." in planned
    assert "--minimize macs --trials 7 --minutes 30 --max-drop 0.02" in planned
    assert "'minimize': 'macs'" in planned
    assert "-d '{" in planned, "it is to copy for a shell too"
    learning = send(person, "/searches/new", **form, strategy="amc", do="plan")
    assert "choose one in “Data”" in read(learning)
    assert service.http.get("/v1/jobs").json()["items"] == []
    token = {**form, "form_token": form_token(person), "do": "submit"}
    person.post("/searches/new", data=token, headers={"HX-Request": "true"})
    assert service.http.get("/v1/jobs").json()["items"] == [], "htmx plans alone"

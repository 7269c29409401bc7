"""What a call does not know in its query is refused, as an unknown field of a body is."""

from typing import Any

import httpx

from tests.app.service import Service, pointers


def test_a_name_that_is_wrong_is_refused_with_those_that_there_are(service: Service) -> None:
    model = service.model()
    answer = service.http.get(f"/v1/models/{model}/recommendations?dataset=dst_1&dataset=2&x=3")
    assert (answer.status_code, answer.json()["type"]) == (422, "invalid")
    assert pointers(answer) == ["#/query/dataset", "#/query/x"]
    assert answer.json()["detail"] == (
        "'dataset' is no parameter here: there are minimize, max_quality_drop, target, data (and 1"
        " more)."
    )
    for method, path in (
        ("GET", f"/v1/models/{model}"),
        ("HEAD", f"/v1/models/{model}/content"),
        ("DELETE", f"/v1/models/{model}"),
        ("POST", "/v1/jobs/plan"),
        ("GET", "/v1/methods"),
    ):
        answer = service.http.request(method, path, params={"surprise": "1"})
        assert answer.status_code == 422, path
        if method != "HEAD":
            assert pointers(answer) == ["#/query/surprise"]
    none = service.http.get(f"/v1/models/{model}?surprise=1")
    assert none.json()["detail"] == "'surprise' is no parameter here: the call has none."
    assert service.http.get(f"/v1/models/{model}").status_code == 200, "nothing was deleted"


def test_who_has_no_key_is_told_that_first(service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer plk_none"}):
        answer = httpx.get(f"{service.url}/v1/jobs?surprise=1", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "unauthenticated")


def test_every_call_knows_the_parameters_that_it_describes_and_no_other(service: Service) -> None:
    described: dict[str, Any] = service.http.get("/openapi.json").json()["paths"]
    calls = [
        (method, path, operation.get("parameters", []))
        for path, operations in described.items()
        for method, operation in operations.items()
        if path.startswith("/v1/")
    ]
    assert len(calls) > 40
    for method, path, parameters in calls:
        names = [each["name"] for each in parameters if each["in"] == "query"]
        somewhere = path.replace("{", "").replace("}", "")
        asked = dict.fromkeys([*names, "surprise"], "1")
        answer = service.http.request(method, somewhere, params=asked)
        assert pointers(answer) == ["#/query/surprise"], (method, path)

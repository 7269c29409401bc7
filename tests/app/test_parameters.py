"""What a call does not know in its query is refused, as an unknown field of a body is."""

from typing import Any

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


def test_every_parameter_that_is_described_is_known(service: Service) -> None:
    """Values may be wrong, and names are not."""
    described: dict[str, Any] = service.http.get("/openapi.json").json()["paths"]
    tried = 0
    for path, operations in described.items():
        for operation in (operations[name] for name in operations if name == "get"):
            names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            if not path.startswith("/v1/") or not names or "events" in path:
                continue
            answer = service.http.get(
                path.replace("{", "").replace("}", ""), params=dict.fromkeys(names, "1")
            )
            assert "is no parameter here" not in answer.text, path
            tried += 1
    assert tried > 10

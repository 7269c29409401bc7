"""The forms that bring a file: sent, sent in parts, fetched from an address, read again."""

from typing import Any

import httpx

from app.settings import Settings
from app.store.session import Sessions
from app.store.tables import ModelRow
from tests.app.people import browser, form_token, read, send
from tests.app.service import Service
from tests.gateway import serving


def test_a_model_is_uploaded_by_a_form(person: httpx.Client) -> None:
    token = form_token(person)
    files = {"file": ("small.onnx", b"not yet looked at" * 10)}
    answer = person.post("/models", params={"form_token": token}, files=files)
    assert answer.status_code == 303
    assert "small.onnx" in read(person.get(answer.headers["location"]))
    refused = person.post("/models", params={"form_token": token}, files={"file": ("a", b"")})
    assert refused.status_code == 422
    assert "empty" in read(refused)
    assert person.post("/models", files=files).status_code == 403


def test_a_page_sends_a_file_in_parts_under_its_session(
    person: httpx.Client, service: Service
) -> None:
    token = {"form_token": form_token(person)}
    content = b"not yet looked at" * 10
    length = {"Upload-Length": str(len(content)), "Upload-Metadata": "filename YS5vbm54"}
    bytes_ = {"Content-Type": "application/offset+octet-stream"}
    begun = person.post("/uploads", params=token, headers=length)
    assert begun.status_code == 201
    upload = begun.headers["location"].rpartition("/")[2]
    place = f"/uploads/{upload}"
    for start, end in ((0, 50), (50, len(content))):
        headers = {**bytes_, "Upload-Offset": str(start)}
        sent = person.patch(place, params=token, headers=headers, content=content[start:end])
        assert sent.status_code == 204
    assert person.head(place, params=token).headers["upload-offset"] == str(len(content))
    for method, path in (("POST", "/uploads"), ("HEAD", place), ("PATCH", place)):
        assert person.request(method, path, headers=length).status_code == 403
    with browser(service, "other") as stranger:
        theirs = {"form_token": form_token(stranger)}
        assert stranger.head(place, params=theirs).status_code == 404
        taken = stranger.post("/models", params={**theirs, "upload_id": upload})
        assert taken.status_code == 422
    made = person.post("/models", params={**token, "upload_id": upload, "cache": "true"})
    assert made.status_code == 303
    assert _hints(service.store, made.headers["location"])["cache"] is True
    assert "a.onnx" in read(person.get(made.headers["location"]))
    with httpx.Client(base_url=service.url) as nobody:
        assert nobody.post("/uploads", headers=length).headers["location"].startswith("/login")


def test_a_model_is_fetched_from_the_address_that_a_form_names(
    settings: Settings, store: Sessions, person: httpx.Client
) -> None:
    assert "Fetch it from an address" not in read(person.get("/models"))
    given = {**settings.model_dump(), "fetch": {"allowed": "https://models.example.com"}}
    with (
        serving(Settings.model_validate(given)) as url,
        browser(Service(url, person, person, store)) as visitor,
    ):
        assert "Fetch it from an address" in read(visitor.get("/datasets"))
        address = {"url": "https://models.example.com/net.onnx", "sha256": ""}
        made = send(visitor, "/models/fetch", **address, cache="true")
        assert made.status_code == 303
        assert "net.onnx" in read(visitor.get(made.headers["location"]))
        assert _hints(store, made.headers["location"])["cache"] is True
        for wrong, words in (
            ({"url": "https://elsewhere.example.com/a"}, "FETCH_ALLOWED"),
            ({"url": "ftp://x"}, "https://"),
            ({**address, "sha256": "abc"}, "SHA-256: must be 64 hexadecimal digits"),
            ({}, "Address: is required"),
        ):
            refused = send(visitor, "/models/fetch", **wrong)
            assert refused.status_code == 422
            assert words in read(refused)
            assert all(f'value="{typed}"' in refused.text for typed in wrong.values())
        assert visitor.post("/models/fetch", data=address).status_code == 403
        form = {**address, "form_token": form_token(visitor), "once": "o" * 32}
        clicks = [visitor.post("/models/fetch", data=form) for _ in range(2)]
        assert clicks[0].headers["location"] == clicks[1].headers["location"]


def _hints(store: Sessions, page: str) -> dict[str, Any]:
    """Return what was said of the file of the model with this page."""
    with store() as session:
        return session.get_one(ModelRow, page.rpartition("/")[2]).hints


def test_a_rejected_file_is_read_again_with_what_it_does_not_tell(
    person: httpx.Client, service: Service
) -> None:
    garbage = read(person.get(f"/models/{service.rejected_model()}"))
    assert "Read it again" not in garbage, "nothing that is said of it would help"
    weights = read(person.get(f"/models/{service.rejected_model('Send ?architecture=timm/x.')}"))
    assert ("Architecture" in weights, "Inputs" in weights) == (True, False)
    model = service.rejected_model('The file tells no shape: send ?inputs=[{"name": "x"}].')
    shapes = read(person.get(f"/models/{model}"))
    assert ("Architecture" in shapes, "Inputs" in shapes) == (False, True)
    wrong = send(person, f"/models/{model}/again", architecture="mine", inputs="")
    assert wrong.status_code == 422
    assert "must be a name such as timm/" in read(wrong)
    assert 'value="mine"' in wrong.text
    assert send(person, f"/models/{model}/again", inputs="[{}]").status_code == 422
    shape = '[{"name": "x", "dtype": "float32", "shape": ["batch", 3]}]'
    answer = send(person, f"/models/{model}/again", inputs=shape, cache="true")
    assert answer.status_code == 303
    assert _hints(service.store, answer.headers["location"])["cache"] is True
    again = service.http.get(f"/v1{answer.headers['location']}").json()
    assert (again["status"], again["id"] != model) == ("inspecting", True)
    assert again["sha256"] == service.http.get(f"/v1/models/{model}").json()["sha256"]
    assert send(person, f"/models/{again['id']}/again").status_code == 409
    with browser(service, "other") as stranger:
        assert send(stranger, f"/models/{model}/again").status_code == 404

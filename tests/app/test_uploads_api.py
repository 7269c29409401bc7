"""``/v1/models`` and ``/v1/datasets``: bytes come in, are described, go out and are forgotten."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from sqlalchemy import event

from app.services import models
from app.settings import Settings
from app.store.views import model_view
from tests.app.service import Service, pointers, sha256

CONTENT = b"some bytes of a model" * 100
FIELDS = {"id", "name", "filename", "format", "status", "sha256", "size_bytes", "created_at"}


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (
            "/v1/models",
            [
                "conversion",
                "parameters",
                "nonzero_parameters",
                "macs",
                "opset",
                "inputs",
                "outputs",
                "operators",
                "notes",
                "sample_sizes",
                "trainable",
                "untrainable",
            ],
        ),
        ("/v1/datasets", ["samples", "arrays", "targets"]),
    ],
)
def test_every_field_is_there_before_inspection(
    service: Service, path: str, more: list[str]
) -> None:
    answer = service.http.post(f"{path}?name=mine&filename=a.onnx", content=CONTENT)
    assert answer.status_code == 201
    made = answer.json()
    assert set(made) == FIELDS | set(more)
    assert (made["name"], made["filename"], made["status"]) == ("mine", "a.onnx", "inspecting")
    assert (made["sha256"], made["size_bytes"]) == (sha256(CONTENT), len(CONTENT))
    assert service.http.get(f"{path}/{made['id']}").json() == made
    assert service.http.get(path).json() == {"items": [made], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"inputs": "no JSON"}, "#/inputs"),
        ({"inputs": "[]"}, "#/inputs"),
        ({"inputs": '[{"shape": ["batch", 0]}]'}, "#/inputs/0/shape/1"),
        ({"inputs": '[{"shape": [1], "dtype": "object"}]'}, "#/inputs/0/dtype"),
        ({"inputs": '[{"shape": [1], "colour": "red"}]'}, "#/inputs/0/colour"),
        ({"architecture": "timm/../x"}, "#/query/architecture"),
    ],
)
def test_what_is_said_of_a_model_is_checked_at_once(
    service: Service, query: dict[str, str], pointer: str
) -> None:
    answer = service.http.post("/v1/models", content=CONTENT, params=query)
    assert answer.status_code == 422
    assert any(found.startswith(pointer) for found in pointers(answer)), answer.json()


def test_a_form_is_as_good_as_raw_bytes(service: Service) -> None:
    answer = service.http.post("/v1/models", files={"file": ("net.onnx", CONTENT)})
    assert answer.status_code == 201
    assert answer.json()["sha256"] == sha256(CONTENT)
    assert answer.json()["filename"] == "net.onnx"


def test_the_same_bytes_make_a_new_model_and_are_stored_once(
    service: Service, settings: Settings
) -> None:
    first, second = (service.http.post("/v1/models", content=CONTENT).json() for _ in range(2))
    assert first["id"] != second["id"]
    root = Path(unquote(urlsplit(settings.storage.url).path))
    files = [path for path in root.rglob("*") if path.is_file()]
    assert [path.name for path in files] == [sha256(CONTENT)]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..%2f..%2fx.onnx", "x.onnx"),
        ("a\\b\\c.onnx", "c.onnx"),
        ("a\r\nb\t.onnx", "ab.onnx"),
        ("..", None),
    ],
)
def test_a_file_name_is_only_its_last_part(service: Service, name: str, kept: str | None) -> None:
    query = name if "%" in name else httpx.QueryParams({"f": name})["f"]
    url = f"/v1/models?filename={query}" if "%" in name else "/v1/models"
    params = None if "%" in name else {"filename": query}
    answer = service.http.post(url, content=CONTENT, params=params)
    assert answer.json()["filename"] == kept


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 422, "empty"),
        (b"x" * (4 * 1024**2 + 1), 413, "bytes"),
        (b"\x80\x04\x95" + b"0" * 100, 415, "pickle"),
        (b"MZ" + b"0" * 100, 415, "program"),
        (b"<!DOCTYPE html><html>", 415, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", 415, "git lfs pull"),
        (b"\x93NUMPY\x01\x00v\x00", 415, "numpy.savez"),
    ],
)
def test_what_can_be_refused_at_once_is(
    service: Service, content: bytes, status: int, says: str
) -> None:
    for path in ("/v1/models", "/v1/datasets"):
        answer = service.http.post(path, content=content)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert says in answer.json()["detail"]
        assert service.http.get(path).json()["items"] == []


def test_weights_of_an_old_torch_are_no_pickle_of_code(service: Service) -> None:
    content = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"0" * 100
    assert service.http.post("/v1/models", content=content).status_code == 201


def test_the_length_that_weights_begin_with_is_no_json(service: Service) -> None:
    content = b'{"'.ljust(8, b"\0") + b'{"weight":{"dtype":"F32"}}'
    assert service.http.post("/v1/models", content=content).status_code == 201
    answer = service.http.post("/v1/models", content=content[8:])
    assert (answer.status_code, "JSON text" in answer.json()["detail"]) == (415, True)


def test_a_body_of_unknown_length_is_bounded_as_it_streams(service: Service) -> None:
    answer = service.http.post("/v1/models", content=(b"x" * 65536 for _ in range(100)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--', 422, ["#/x"]),
        (b"--b--\r\n", 422, ["#/file"]),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf', 400, []),
        (b"no form at all", 400, []),
    ],
)
def test_a_broken_form_is_said_to_be(
    service: Service, body: bytes, status: int, pointer: list[str]
) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = service.http.post("/v1/models", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert pointers(answer) == pointer


def test_a_quota_bounds_what_a_tenant_stores(service: Service) -> None:
    large = b"y" * (4 * 1024**2)
    for number in range(4):
        assert service.http.post("/v1/models", content=large).status_code == 201, number
    answer = service.http.post("/v1/models", content=CONTENT)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert service.other.post("/v1/models", content=CONTENT).status_code == 201


def test_images_are_normalised_as_the_query_says(service: Service) -> None:
    good = service.http.post("/v1/datasets?mean=0.5,0.5,0.5&std=0.2", content=CONTENT)
    assert good.status_code == 201
    for query in ("mean=a", "std=0", "std=-1", "mean=nan", "mean=1,2,3,4,5"):
        answer = service.http.post(f"/v1/datasets?{query}", content=CONTENT)
        assert answer.status_code == 422, query
        assert pointers(answer)[0].startswith("#/query/"), answer.text


def test_the_uploaded_bytes_and_the_graph_come_back(service: Service) -> None:
    model = service.http.post("/v1/models", content=CONTENT).json()["id"]
    assert service.http.get(f"/v1/models/{model}/content").content == CONTENT
    early = service.http.get(f"/v1/models/{model}/content?form=onnx")
    assert (early.status_code, early.json()["type"]) == (409, "conflict")
    ready = service.model()
    assert service.http.get(f"/v1/models/{ready}/content?form=onnx").status_code == 200


def test_a_deleted_model_is_gone(service: Service) -> None:
    model = service.model()
    assert service.http.delete(f"/v1/models/{model}").status_code == 204
    assert service.http.get(f"/v1/models/{model}").status_code == 404
    assert service.http.delete(f"/v1/models/{model}").status_code == 404


def test_what_a_job_uses_cannot_be_deleted(service: Service) -> None:
    model, dataset = service.model(), service.dataset()
    job = service.job(model, dataset=dataset)["id"]
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        answer = service.http.delete(path)
        assert answer.status_code == 409
        assert job in answer.json()["detail"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    for path in (f"/v1/models/{model}", f"/v1/datasets/{dataset}"):
        assert service.http.delete(path).status_code == 204
    assert service.http.get(f"/v1/jobs/{job}").json()["model"] == model


def test_a_walk_through_a_list_shows_each_item_once(service: Service) -> None:
    made = [service.http.post("/v1/models", content=CONTENT).json()["id"] for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = service.http.get("/v1/models", params=params).json()
        seen += [item["id"] for item in page["items"]]
        service.http.post("/v1/models", content=CONTENT)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=WzJd", "cursor=%ff"]
)
def test_a_wrong_page_is_refused_at_its_parameter(service: Service, query: str) -> None:
    answer = service.http.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert pointers(answer) == [f"#/query/{query.split('=', maxsplit=1)[0]}"]


def test_a_list_reads_no_layers(service: Service) -> None:
    """A model may have 20,000 of them, and a page a hundred models."""
    layers = [{"name": "n" * 200, "operator": "Conv", "parameters": 1, "macs": 1}] * 2000
    model = service.model(layers=layers)
    read: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        read.append(statement)

    with service.store() as session:
        event.listen(session.get_bind(), "before_cursor_execute", note)
        rows = session.scalars(models.of_tenant("acme")).all()
        [listed] = [model_view(row) for row in rows]
        assert len(read) == 1
        assert "jsonb_set(models.description" in read[0]
    assert listed.id == model
    shown = service.http.get(f"/v1/models/{model}").json()
    [from_api] = service.http.get("/v1/models").json()["items"]
    assert from_api == shown
    assert shown["macs"] is not None

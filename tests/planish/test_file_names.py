"""The name that a download is given: it says which file is meant, and never another format."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

import planish
from tests.planish.answers import DATASET, ENDED, JOB, MODEL, NO_MODEL
from tests.planish.scripted import Answer, answer, events, scripted

CALLED = {"openvino": "net-prune.zip", "litert": "net-prune.tflite", "onnx": "net-prune.onnx"}


def content(name: str) -> bytes:
    return f"the {name} file".encode()


def artifact(name: str) -> dict[str, Any]:
    return {
        "id": f"art_{name}",
        "format": name,
        "filename": CALLED[name],
        "size_bytes": len(content(name)),
        "sha256": hashlib.sha256(content(name)).hexdigest(),
        "href": f"/v1/artifacts/art_{name}/content",
    }


DONE = answer(200, {**JOB, "artifacts": [artifact(name) for name in CALLED]})


def sent(name: str, disposition: str = "attachment") -> Answer:
    return answer(200, content(name), Content_Disposition=disposition)


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("small.onnx", "onnx"),
        ("small.tflite", "litert"),
        ("small.ZIP", "openvino"),
        ("small", "openvino"),
        ("small.v2", "openvino"),
    ],
)
def test_a_name_says_which_file_is_meant(tmp_path: Path, name: str, format_: str) -> None:
    with scripted([DONE, sent(format_)]) as service, planish.Client(service.url) as client:
        file = client.jobs.get("job_1").download(tmp_path / name)
        assert service.requests[1].path == artifact(format_)["href"]
    assert file == tmp_path / name
    assert file.read_bytes() == content(format_)


@pytest.mark.parametrize(
    ("name", "format_", "better"),
    [
        ("small.onnx", "openvino", "small.zip"),
        ("small.zip", "litert", "small.tflite"),
        ("small.pte", None, "small.zip"),
    ],
)
def test_a_name_of_another_format_is_refused_before_a_byte_comes(
    tmp_path: Path, name: str, format_: str | None, better: str
) -> None:
    with scripted([DONE]) as service, planish.Client(service.url) as client:
        job = client.jobs.get("job_1")
        with pytest.raises(planish.Misnamed, match=f"{tmp_path / better}"):
            job.download(tmp_path / name, format=format_)
        assert len(service.requests) == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (
            "attachment; filename=\"netz.onnx\"; filename*=UTF-8''n%C3%A4tz-int8.onnx",
            "nätz-int8.onnx",
        ),
        ("attachment; filename*=UTF-8''..%2F..%2F.profile", "profile"),
        ("attachment; filename*=UTF-8''..%5C..%5Cwin.onnx", "win.onnx"),
        ("attachment", "v1-artifacts-art_onnx-content"),
    ],
)
def test_in_a_directory_a_file_has_the_name_that_the_service_gives_it(
    tmp_path: Path, disposition: str, name: str
) -> None:
    place = tmp_path / "results"
    place.mkdir()
    answers = [DONE, sent("onnx", disposition)]
    with scripted(answers) as service, planish.Client(service.url) as client:
        file = client.jobs.get("job_1").download(place, format="onnx")
    assert file == place / name
    assert [*tmp_path.rglob("*")] == [place, file]


def test_a_job_that_delivers_no_file_of_that_name_is_cancelled_before_it_works(
    tmp_path: Path,
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    queued = {**JOB, "status": "queued", "deliver": ["litert", "ort"]}
    answers = [
        answer(422, NO_MODEL),
        answer(201, {**MODEL, "status": "ready"}),
        answer(201, DATASET),
        answer(202, queued),
        answer(202, {**queued, "status": "cancelled"}),
    ]
    data = tmp_path / "data.npz"
    data.write_bytes(b"x")
    with scripted(answers) as service, planish.Client(service.url) as client:
        with pytest.raises(planish.Misnamed, match=r"small\.tflite or .*small\.ort"):
            planish.compress(model, data, output=tmp_path / "small.onnx", client=client)
        assert service.requests[-1].path == "/v1/jobs/job_1/cancel"


def test_a_model_that_one_file_does_not_hold_comes_as_a_zip(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    packed = {**artifact("onnx"), "filename": "net-prune.zip"}
    job = {**JOB, "deliver": ["onnx"], "artifacts": [packed]}
    answers = [
        answer(422, NO_MODEL),
        answer(201, {**MODEL, "status": "ready"}),
        answer(202, {**job, "status": "queued", "artifacts": []}),
        events(ENDED),
        answer(200, job),
        sent("onnx"),
        answer(200, {}),
    ]
    small = tmp_path / "small.onnx"
    with scripted(answers) as service, planish.Client(service.url) as client:
        made = planish.compress(model, output=small, client=client, progress=False)
    assert made.file == small.with_suffix(".zip")
    assert made.file.read_bytes() == content("onnx")
    assert not small.exists()

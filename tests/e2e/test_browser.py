"""Pages in a real browser: whatever names a model brings, nothing of them runs or is fetched."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.browser import Browser, opened
from tests.e2e.service import Service

AWAY = "http://elsewhere.test"
ATTACKS = (
    f"<script src={AWAY}/s></script><script>document.title='ran'</script>",
    f"</style></title></pre></table><img src={AWAY}/i onerror=\"document.title='ran'\">",
    f"<style>@import '{AWAY}/c'; body {{ background: url({AWAY}/u) }}</style>",
    f"<meta http-equiv=refresh content='0;url={AWAY}/m'><base href={AWAY}>",
    f"<iframe srcdoc='<script>parent.document.title=`ran`</script>'></iframe><link href={AWAY}/l>",
    f"<svg onload=\"document.title='ran'\"><use href={AWAY}/g></svg>",
    "{{ cycler.__init__.__globals__ }}",
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with opened(tmp_path / "profile") as browser:
        yield browser


def hostile_model() -> bytes:
    """A chain of products whose every name is an attack."""
    values = ["x", *(f"{attack} {index}" for index, attack in enumerate(ATTACKS))]
    weight = np.eye(16, dtype=np.float32)
    nodes, weights = [], []
    for source, target, attack in zip(values, values[1:], ATTACKS, strict=False):
        weights.append(numpy_helper.from_array(weight, f"weight {attack}"))
        nodes.append(helper.make_node("MatMul", [source, f"weight {attack}"], [target], attack))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16])
        for name in (values[0], values[-1])
    ]
    graph = helper.make_graph(nodes, ATTACKS[0], ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def test_the_report_of_a_hostile_model_is_inert(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    steps = [{"method": "quantize", "mode": "dynamic", "force": True}]
    job_id = service.submit(service.upload(hostile_model()), name=ATTACKS[0], steps=steps)
    assert service.finished(job_id)["status"] == "succeeded"
    answer = service.http.get(f"/v1/jobs/{job_id}/report", headers={"Accept": "text/html"})
    assert "elsewhere.test" in answer.text
    page, bare = tmp_path / "report.html", tmp_path / "bare.html"
    page.write_text(answer.text)
    policy = answer.headers["content-security-policy"]
    bare.write_text(answer.text.replace("Content-Security-Policy", "X").replace(policy, ""))
    for file in (page, bare):
        shown = browser.shown(file)
        assert "Before and after" in shown
        assert "<title>ran" not in shown
        assert browser.asked == []


def test_the_policy_alone_keeps_a_page_from_running_and_fetching(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    """Even if escaping failed; without the policy the same page does both, so this test can see."""
    policy = service.http.get("/docs").headers["content-security-policy"]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    body = f"<img src={AWAY}/i><script>document.title='ran'</script>"
    kept, free = tmp_path / "kept.html", tmp_path / "free.html"
    kept.write_text(f"<!doctype html><title>page</title>{meta}{body}")
    assert "<title>page</title>" in browser.shown(kept)
    assert browser.asked == []
    free.write_text(f"<!doctype html><title>page</title>{body}")
    assert "<title>ran</title>" in browser.shown(free)
    assert any(AWAY in line for line in browser.asked)


def test_the_api_s_page_is_complete_without_a_network(
    service: Service, browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "docs.html"
    page.write_text(service.http.get("/docs").text)
    assert "/v1/jobs/{job_id}/cancel" in browser.shown(page)
    browser.printed(page, tmp_path / "docs.pdf")
    assert (tmp_path / "docs.pdf").read_bytes().startswith(b"%PDF")
    assert browser.asked == []

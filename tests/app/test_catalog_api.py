"""``/v1/methods`` and ``/v1/targets``: what a job may ask for."""

from tests.app.service import Service


def test_methods_have_a_schema_with_a_default_for_every_property(service: Service) -> None:
    methods = service.http.get("/v1/methods").json()["items"]
    named = {method["method"] for method in methods}
    assert named >= {"cluster", "low_rank", "prune", "quantize"}
    for method in methods:
        assert set(method) == {"method", "title", "description", "schema", "needs", "provides"}
        properties = method["schema"]["properties"]
        assert properties["method"]["const"] == method["method"]
        assert all("default" in parameter for parameter in properties.values())
        assert set(method["needs"]) == {"data", "trainable"}


def test_targets_are_what_workers_announced(service: Service) -> None:
    assert service.http.get("/v1/targets").json()["items"] == []
    service.worker("onnx")
    service.worker("onnx")
    [target] = service.http.get("/v1/targets").json()["items"]
    assert set(target) == {"target", "runtime", "version", "devices", "accelerates"}
    assert [device["name"] for device in target["devices"]] == ["cpu"]

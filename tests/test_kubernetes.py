"""The manifests for Kubernetes: they fit its schema, and what confinement and upgrades need."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "deploy" / "kubernetes"
OLDEST = "1.33"
"""Whose schema the tests have; the fields are those of 1.30."""

Json = dict[str, Any]


def documents() -> list[Json]:
    """Return what ``kubectl apply -k`` would send, without the labels and tags."""
    names = yaml.safe_load((PLACE / "kustomization.yaml").read_text())["resources"]
    assert {*names, "kustomization.yaml"} == {path.name for path in PLACE.glob("*.yaml")}
    return [each for name in names for each in yaml.safe_load_all((PLACE / name).read_text())]


def of_kind(kind: str) -> dict[str, Json]:
    return {each["metadata"]["name"]: each for each in documents() if each["kind"] == kind}


def pods() -> dict[str, Json]:
    """Return the pods' specifications by the name of what makes them."""
    made = {**of_kind("Deployment"), **of_kind("Job")}
    return {name: each["spec"]["template"]["spec"] for name, each in made.items()}


def container(name: str) -> Json:
    [only] = pods()[name]["containers"]
    found: Json = only
    return found


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_every_manifest_fits_the_schema(version: str) -> None:
    for each in documents():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schema_finds_a_field_that_does_not_exist() -> None:
    [each, *_] = documents()
    each["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(each, OLDEST, strict=True)


def test_every_selector_finds_the_pods_that_are_meant() -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in of_kind("Deployment").values()
    ]
    for each in documents():
        spec = each["spec"]
        chosen = spec.get("podSelector", spec.get("selector"))
        if chosen is not None:
            wanted = chosen.get("matchLabels", chosen).items()
            assert any(wanted <= have.items() for have in labels), each["metadata"]["name"]


def test_nothing_runs_as_root_or_may_take_privileges() -> None:
    for name, pod in pods().items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        own = container(name)["securityContext"]
        assert own["allowPrivilegeEscalation"] is False, name
        assert own["readOnlyRootFilesystem"] is True, name
        assert own["capabilities"] == {"drop": ["ALL"]}, name
        assert container(name)["resources"]["limits"]["memory"], name


def test_workers_may_do_what_confines_their_engine() -> None:
    """As docs/operations.md says; `tests/e2e/test_containers.py` runs jobs under this profile."""
    for name in ("planish-worker-cpu", "planish-worker-gpu"):
        context = pods()[name]["securityContext"]
        profile = {"type": "Localhost", "localhostProfile": "planish.json"}
        assert context["seccompProfile"] == profile
        assert context["appArmorProfile"] == {"type": "Unconfined"}
        assert "procMount" not in json.dumps(pods()[name])
    for name in ("planish-gateway", "planish-valkey", "planish-migrate"):
        assert pods()[name]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_each_kind_of_device_has_workers_that_offer_it() -> None:
    gpu = container("planish-worker-gpu")
    assert gpu["image"] == "planish-worker-gpu"
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in json.dumps(container("planish-worker-cpu"))
    for name in ("planish-worker-cpu", "planish-worker-gpu"):
        assert container(name)["livenessProbe"]["exec"]["command"] == [
            "planish",
            "worker",
            "--health",
        ]
        assert pods()[name]["terminationGracePeriodSeconds"] >= 30, "jobs are given back"
        places = {each["mountPath"] for each in container(name)["volumeMounts"]}
        assert {_environment(name)["WORKER_DIRECTORY"], "/tmp"} <= places


def test_memory_is_enough_for_what_runs_may_use() -> None:
    """A job and both inspections at once, and the worker's own processes."""
    for name in ("planish-worker-cpu", "planish-worker-gpu"):
        env = _environment(name)
        slots = Settings.model_fields["worker"].default.light_slots
        runs = int(env["ENGINE_MEMORY_BYTES"]) + slots * int(env["ENGINE_INSPECT_MEMORY_BYTES"])
        limit = container(name)["resources"]["limits"]["memory"]
        assert limit.endswith("Gi")
        assert runs + 2 * 1024**3 <= int(limit[:-2]) * 1024**3


def test_every_variable_is_a_setting() -> None:
    example = (PLACE / "planish.env.example").read_text().splitlines()
    names = {line.partition("=")[0] for line in example}
    assert {"DATABASE_URL", "BROKER_URL", "STORAGE_URL"} <= names
    for name in pods():
        names |= set(_environment(name))
    for name in names - {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}:
        group, _, field = name.lower().partition("_")
        assert field in Settings.model_fields[group].annotation.model_fields, name  # type: ignore[union-attr]


def test_what_stays_up_survives_a_drained_node() -> None:
    guarded = {
        each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        for each in of_kind("PodDisruptionBudget").values()
    }
    assert guarded == {name for name in of_kind("Deployment") if name != "planish-valkey"}
    assert of_kind("Deployment")["planish-gateway"]["spec"]["replicas"] >= 2


def test_workers_are_added_while_jobs_wait_long() -> None:
    [scaler] = of_kind("HorizontalPodAutoscaler").values()
    deployment = of_kind("Deployment")[scaler["spec"]["scaleTargetRef"]["name"]]
    assert "replicas" not in deployment["spec"], "it is the scaler's"
    [metric] = scaler["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == "planish_queue_age_seconds"


def _environment(name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(name).get("env", [])}

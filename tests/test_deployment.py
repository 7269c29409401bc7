"""Images and the compose file: what is in them, whom they run as, what waits for what."""

import json
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.settings import Database

ROOT = Path(__file__).parents[1]
TARGETS = ("gateway", "worker", "worker-gpu")
ENGINE = {"torch", "onnx", "onnxruntime", "onnx-ir"}


def stages() -> dict[str, tuple[str, str]]:
    """Each stage of the Dockerfile: what it stands on, and its instructions."""
    parts = re.split(
        r"^FROM (\S+) AS (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE
    )
    return {
        name: (parent, text)
        for parent, name, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def chain(target: str) -> list[str]:
    """The instructions that make an image, from its first stage on."""
    found = stages()
    texts: list[str] = []
    while target in found:
        target, text = found[target]
        texts.insert(0, text)
    return texts


def services() -> dict[str, dict[str, Any]]:
    text = (ROOT / "docker-compose.yml").read_text()
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return found


def installed(extra: str) -> set[str]:
    """The packages that ``pip install planish[extra]`` brings along."""
    seen: set[tuple[str, str]] = set()
    todo = [("planish", extra)]
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            needs = map(Requirement, requires(name) or ())
        except PackageNotFoundError:  # for another system
            continue
        for need in needs:
            if need.marker is None or need.marker.evaluate({"extra": wanted}):
                todo += [(canonicalize_name(need.name), more) for more in ("", *need.extras)]
    return {name for name, _ in seen}


def test_the_gateway_s_image_has_no_engine_and_the_worker_s_has() -> None:
    found = stages()
    for target, extra in (("gateway", "gateway"), ("worker", "worker"), ("worker-gpu", "worker")):
        packages, built = f"{target}-packages", found[f"{target}-packages"][1]
        assert f"COPY --from={packages} /opt/planish" in found[target][1]
        assert re.search(rf"\[{extra}[,\]]", built)
        assert (installed(extra) & ENGINE == ENGINE) == (extra == "worker")
    assert installed("gateway").isdisjoint({*ENGINE, "numpy"})


@pytest.mark.parametrize("target", TARGETS)
def test_no_image_runs_as_root(target: str) -> None:
    users = re.findall(r"^USER (\S+)$", "\n".join(chain(target)), flags=re.MULTILINE)
    assert users
    assert users[-1].split(":")[0] not in {"root", "0"}


def test_tables_are_migrated_once_before_anything_of_ours_starts() -> None:
    ours = services()
    migrate = ours.pop("migrate")
    assert migrate["command"] == ["planish", "migrate"]
    assert migrate["restart"] == "no"
    for name in TARGETS:
        waits = ours[name]["depends_on"]
        assert waits["migrate"] == {"condition": "service_completed_successfully"}
        assert waits["postgres"] == waits["redis"] == {"condition": "service_healthy"}


def test_everything_that_stays_up_is_watched_and_stopped_gently() -> None:
    for name, service in services().items():
        if name in {"migrate", "gateway"}:
            continue
        assert service["healthcheck"]["test"], name
    for name in ("worker", "worker-gpu"):
        assert services()[name]["healthcheck"]["test"] == ["CMD", "planish", "worker", "--health"]
    assert "HEALTHCHECK" in chain("gateway")[-1], "the gateway's is in its image"
    for name in TARGETS:
        assert services()[name]["stop_grace_period"]
        assert services()[name]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in services()[name]["security_opt"]


def test_workers_may_call_what_confines_their_engine_and_nothing_that_takes_privileges() -> None:
    profile = json.loads((ROOT / "deploy" / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = [
        name
        for group in profile["syscalls"]
        if group["action"] == "SCMP_ACT_ALLOW"
        for name in group["names"]
    ]
    assert {"unshare", "mount", "pivot_root", "landlock_restrict_self", "seccomp"} <= set(allowed)
    privileged = {"bpf", "ptrace", "keyctl", "io_uring_setup", "perf_event_open", "setns"}
    assert privileged.isdisjoint(allowed)
    for name in ("worker", "worker-gpu"):
        assert "seccomp=./deploy/seccomp.json" in services()[name]["security_opt"]
    assert "seccomp" not in str(services()["gateway"]["security_opt"]), "the gateway needs none"


def test_the_database_takes_all_connections_that_pools_may_open() -> None:
    """A gateway has two pools; a worker's container a process for light work and one a device."""
    devices = {"gateway": 0, "worker": 1, "worker-gpu": 8}
    default = Database().pool
    pools = [
        int(services()[name]["environment"].get("DATABASE_POOL", default)) * (1 + max(1, count))
        for name, count in devices.items()
    ]
    [most] = re.findall(r"max_connections=(\d+)", str(services()["postgres"]["command"]))
    assert sum(pools) + 10 <= int(most)


def test_the_gpu_worker_is_asked_for_and_gets_the_devices() -> None:
    worker = services()["worker-gpu"]
    assert worker["profiles"] == ["gpu"]
    [device] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_only_the_gateway_is_reached_from_outside_and_it_needs_keys() -> None:
    assert [name for name, service in services().items() if "ports" in service] == ["gateway"]
    gateway = services()["gateway"]
    assert gateway["environment"]["AUTH_REQUIRED"] == "true"
    assert all(port.startswith("127.0.0.1:") for port in gateway["ports"])


@pytest.mark.parametrize("profile", ["", "gpu"])
def test_compose_reads_the_file(profile: str) -> None:
    if shutil.which("docker-compose"):
        compose = ["docker-compose"]
    elif shutil.which("docker") and _runs(["docker", "compose", "version"]).returncode == 0:
        compose = ["docker", "compose"]
    else:
        pytest.skip("there is no docker compose on this machine")
    done = _runs([*compose, "--profile", profile, "config", "--quiet"], POSTGRES_PASSWORD="x")
    assert done.returncode == 0, done.stderr
    without = _runs([*compose, "config", "--quiet"])
    assert "set POSTGRES_PASSWORD" in without.stderr


def test_the_dockerfile_has_no_known_fault() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("there is no hadolint on this machine")
    done = _runs([hadolint, "Dockerfile"])
    assert done.returncode == 0, done.stdout


def _runs(argv: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", **variables}
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

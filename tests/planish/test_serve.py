"""``planish serve``, as a person runs it: started, used, stopped, killed."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

PLANISH = (sys.executable, "-m", "planish")
_CONFIGURATION = ("DATABASE_URL", "BROKER_URL", "STORAGE_URL", "AUTH_REQUIRED", "PLANISH_DATA")


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _CONFIGURATION}
    return {**inherited, **more}


def planish(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PLANISH, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**more),
        check=False,
    )


@contextmanager
def serving(
    data: Path, *words: str, before: Sequence[str] = (), **more: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a service; hand out its process and its URL, once it says where it is.

    Words ``before`` the command may make another user of it.
    """
    argv = [*before, *PLANISH, "serve", "--data", str(data), "--port", "0", *words]
    env = environment(**more)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            banner = process.stdout.readline()
            assert "http://" in banner, banner
            yield process, next(word for word in banner.split() if word.startswith("http://"))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return children


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_within_seconds(tmp_path: Path, sent: signal.Signals) -> None:
    with serving(tmp_path / "data") as (process, url):
        assert httpx.get(f"{url}/healthz").is_success
        children = below(process)
        assert {"postgres", "valkey-server"} <= {child.name() for child in children}
        process.send_signal(sent)
        assert process.wait(60) == 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_after_kill_9_the_next_start_finds_the_data(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (process, url):
        hook = {"url": "https://example.com/"}
        made = httpx.post(f"{url}/v1/webhooks", json=hook).json()["id"]
        children = below(process)
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == [], "what a killed service started ends by itself"
    with serving(tmp_path / "data") as (_, url):
        assert httpx.get(f"{url}/v1/webhooks/{made}").json()["id"] == made


def test_a_port_that_is_taken_is_said_with_what_to_do_instead(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        by_option = planish("serve", "--data", str(tmp_path / "data"), "--port", port)
        by_setting = planish("serve", "--data", str(tmp_path / "data"), SERVER_PORT=port)
    for second in (by_option, by_setting):
        assert second.returncode == 1
        assert f"127.0.0.1:{port} already" in second.stderr
        assert "--port or SERVER_PORT" in second.stderr
    assert not (tmp_path / "data").exists(), "nothing was started"


def test_a_second_start_on_the_same_data_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data"):
        second = planish("serve", "--data", str(tmp_path / "data"), "--port", "0")
    assert second.returncode == 1
    assert "in use by another service" in second.stderr
    assert "Traceback" not in second.stderr


def test_bound_to_the_network_it_asks_for_keys_whose_tenants_can_be_looked_after(
    tmp_path: Path,
) -> None:
    data = str(tmp_path / "data")
    with serving(tmp_path / "data", "--host", "0.0.0.0") as (_, url):
        models = f"{url}/v1/models"
        assert httpx.get(models).status_code == 401
        for kind in ("keys", "tenants"):
            assert planish(kind, "list", "--data", data).stderr == "There are none.\n"
        created = planish("keys", "create", "me", "--scope", "read", "--data", data)
        key = {"Authorization": f"Bearer {created.stdout.strip()}"}
        assert httpx.get(models, headers=key).status_code == 200
        assert httpx.post(models, headers=key, content=b"x").status_code == 403
        listed = planish("keys", "list", "--data", data).stdout
        assert created.stdout.strip() not in listed
        key_id = next(word for word in listed.split() if word.startswith("key_"))
        for command in ("usage", "delete"):
            unknown = planish("tenants", command, "nobody", "--data", data)
            assert unknown.returncode == 1
            assert "planish tenants list" in unknown.stderr
        assert "default" in planish("tenants", "list", "--data", data).stdout
        usage = ("tenants", "usage", "default", "--data", data)
        assert planish(*usage).stdout == "", "nothing was used"
        assert len(json.loads(planish(*usage, "--json").stdout)) == 30
        wrong = planish(*usage, "--first", "2026-01-02", "--last", "2026-01-01")
        assert "--first" in wrong.stderr
        assert planish("keys", "revoke", key_id, "--data", data).returncode == 0
        assert httpx.get(models, headers=key).status_code == 401
    assert "revoked" in planish("keys", "list", "--data", data).stdout


def test_a_half_configured_fleet_is_told_what_is_missing() -> None:
    for command in ("serve", "worker"):
        done = planish(command, DATABASE_URL="postgresql://nowhere/x")
        assert done.returncode == 1
        assert "BROKER_URL, STORAGE_URL must be set" in done.stderr


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = planish("serve", "--data", str(tmp_path), SERVER_PORT="eighty")
    assert done.returncode == 1
    assert "SERVER_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_name_within_a_setting_is_named(tmp_path: Path) -> None:
    """It would keep nothing for the tenant that it was meant to keep everything of."""
    kept = '{"archive": {"job_days": null}}'
    done = planish("serve", "--data", str(tmp_path), RETENTION_TENANTS=kept)
    assert done.returncode == 1
    assert "RETENTION_TENANTS archive.job_days: is not a field" in done.stderr


def test_keys_without_a_service_say_where_one_would_be(tmp_path: Path) -> None:
    done = planish("keys", "list", "--data", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "planish serve" in done.stderr


def test_a_misspelt_setting_is_named_once_at_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ("--data", str(tmp_path / "none"), "--port", port)
        done = planish("serve", *options, RETENTION_JOB_DAYS="3")
    assert done.returncode == 1, "another program has the port"
    assert done.stderr.count("RETENTION_JOBS_DAYS") == 1, done.stderr


def test_the_doctor_finds_what_is_there(tmp_path: Path) -> None:
    well = planish("doctor", "--data", str(tmp_path / "none"), RETENTION_JOB_DAYS="3")
    assert well.returncode == 0, well.stdout + well.stderr
    assert "ignored: RETENTION_JOB_DAYS (nearest: RETENTION_JOBS_DAYS)" in well.stdout
    assert "PostgreSQL" in well.stdout
    assert "Landlock" in well.stdout


def test_the_doctor_fails_where_something_must_be_put_right(tmp_path: Path) -> None:
    fleet = {
        "DATABASE_URL": f"postgresql://x@/x?host={tmp_path}",
        "BROKER_URL": f"redis+socket://{tmp_path}/none",
        "STORAGE_URL": "ftp://x",
    }
    ill = planish("doctor", **fleet)
    assert ill.returncode == 1
    assert "Traceback" not in ill.stderr
    assert ill.stdout.count("fail") >= 3

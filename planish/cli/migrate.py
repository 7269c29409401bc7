"""``planish migrate``: bring the database's tables up to this version."""

from planish.cli.deployment import DEFAULT_DATA, Data, Stop, reachable_database


def migrate(data: Data = DEFAULT_DATA) -> None:
    """Bring the database's tables up to this version.

    Do this before new gateways and workers start. `planish serve` without configuration does it by
    itself.
    """
    from sqlalchemy.exc import OperationalError

    import migrations

    with reachable_database(data) as database:
        if database.pooled:
            raise Stop(
                "migrations hold a lock for a session, which a pooler does not keep: set"
                " DATABASE_URL to PostgreSQL itself, and DATABASE_POOLED=false, for this command"
            )
        try:
            migrations.upgrade(database)
        except OperationalError as error:
            raise Stop(f"the database does not answer: {error.orig}") from None
    print("The database is up to date.")

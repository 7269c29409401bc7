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
        try:
            migrations.upgrade(database)
        except OperationalError as error:
            raise Stop(f"the database does not answer: {error.orig}") from None
    print("The database is up to date.")

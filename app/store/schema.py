"""Which version of the tables a database has, and whether this version can work with it."""

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

import migrations
from app.domain.problems import Unavailable


def require(session: Session) -> None:
    """Return if the tables are this version's, or a newer version's: those only add.

    Raises:
        Unavailable: The tables are an older version's, or there are none.
    """
    there = session.scalar(select(func.to_regclass("alembic_version")))
    found = session.scalar(text("SELECT version_num FROM alembic_version")) if there else None
    needed = migrations.head()
    if found is None:
        raise Unavailable("The database has no tables yet: run 'planish migrate'.")
    if found != needed and migrations.knows(found):
        raise Unavailable(
            f"The database's tables are at revision {found}, and this version needs {needed}:"
            " run 'planish migrate'."
        )

"""Checks whether the version of the tables in a database fits this version of the program."""

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.domain.problems import Unavailable

NEEDED = "0027"
"""The revision of the tables that this version reads and writes; revisions count up."""


def require(session: Session) -> None:
    """Return if the tables are of this version or a newer one, which only adds to them.

    Raises:
        Unavailable: The tables are of an older version, or there are none.
    """
    exists = session.scalar(select(func.to_regclass("alembic_version")))
    revision = session.scalar(text("SELECT version_num FROM alembic_version")) if exists else None
    if revision is None:
        raise Unavailable("The database has no tables yet: run 'planish migrate'.")
    if revision < NEEDED:
        raise Unavailable(
            f"The database's tables are at revision {revision}, and this version needs {NEEDED}:"
            " run 'planish migrate'."
        )

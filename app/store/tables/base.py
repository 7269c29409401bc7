"""What all tables share: the types of columns, the names of constraints, and the lease of a row.

Times are the database's (``now()``), as clocks of workers and gateways may be wrong.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Double, LargeBinary, MetaData, Text, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app import tracing

Json = dict[str, Any]


class Table(DeclarativeBase):
    """The root of all tables, with constraint names that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own protocol)
        str: Text,
        int: BigInteger,
        float: Double,
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
        list[Json]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
    }


class Leased:
    """A row on which one worker at a time works.

    ``lease_token`` counts the leases of the row so far; a write with an older token is rejected (a
    fencing token). A row without ``lease_expires_at`` is free.
    """

    id: Mapped[str] = mapped_column(primary_key=True)
    lease_token: Mapped[int] = mapped_column(default=0, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())


class Run(Leased):
    """A leased row whose holder renews the lease while it works, until it has come to an end."""

    losses: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many holders in a row went silent; a finished step begins the row anew."""


class Traced:
    """A row that somebody works on later, in the trace of whoever wrote it."""

    traceparent: Mapped[str | None] = mapped_column(default=tracing.here)
    """The span in which the row was written, in the form of W3C Trace Context."""

"""How many workers in a row a run has lost."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0027"
down_revision: str | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TABLES = ("jobs", "models", "datasets", "fetches")


def upgrade() -> None:
    for table in _TABLES:
        column = sa.Column("losses", sa.BigInteger(), server_default="0", nullable=False)
        op.add_column(table, column)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "losses")

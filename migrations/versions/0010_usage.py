"""What each tenant used on each day; it stays when jobs are deleted."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    zero = sa.text("0")
    op.create_table(
        "usage_days",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("cpu_seconds", sa.Double(), server_default=zero, nullable=False),
        sa.Column("gpu_seconds", sa.Double(), server_default=zero, nullable=False),
        sa.Column("jobs", sa.BigInteger(), server_default=zero, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), server_default=zero, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", name=op.f("pk_usage_days")),
    )


def downgrade() -> None:
    op.drop_table("usage_days")

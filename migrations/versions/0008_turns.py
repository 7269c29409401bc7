"""Tenants take turns; jobs have a priority and ask for devices and labels that workers have."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    none = sa.text("'{}'")
    op.add_column(
        "jobs", sa.Column("priority", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("jobs", sa.Column("requires_device", sa.Text(), nullable=True))
    op.add_column(
        "jobs",
        sa.Column(
            "requires_labels", postgresql.ARRAY(sa.Text()), server_default=none, nullable=False
        ),
    )
    op.add_column(
        "workers",
        sa.Column("labels", postgresql.ARRAY(sa.Text()), server_default=none, nullable=False),
    )
    op.create_table(
        "turns",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.CheckConstraint("kind in ('job', 'upload')", name=op.f("ck_turns_kind")),
        sa.PrimaryKeyConstraint("kind", "tenant", name=op.f("pk_turns")),
    )
    op.create_table(
        "chores",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
    )


def downgrade() -> None:
    op.drop_table("chores")
    op.drop_table("turns")
    op.drop_column("workers", "labels")
    op.drop_column("jobs", "requires_labels")
    op.drop_column("jobs", "requires_device")
    op.drop_column("jobs", "priority")

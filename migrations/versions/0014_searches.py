"""Searches: jobs that file trials, which are jobs."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES = (
    ("ix_jobs_searching", ["id"], "search IS NOT NULL AND status in ('queued', 'running')"),
    ("ix_jobs_parent", ["parent_id"], "parent_id IS NOT NULL"),
)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("parent_id", sa.Text(), nullable=True), if_not_exists=True)
    op.add_column("jobs", sa.Column("search", JSONB(), nullable=True), if_not_exists=True)
    op.create_table(
        "trials",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("note", JSONB(), nullable=False),
        sa.Column("outcome", JSONB(), nullable=True),
        sa.ForeignKeyConstraint(
            ["search_id"], ["jobs.id"], name=op.f("fk_trials_search_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_trials_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("search_id", "number", name=op.f("pk_trials")),
        sa.UniqueConstraint("job_id", name=op.f("uq_trials_job_id")),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        for name, columns, rows in _INDEXES:
            # One that was cut off is there, and not used.
            op.drop_index(name, table_name="jobs", if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                "jobs",
                columns,
                postgresql_where=sa.text(rows),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name, _, _ in reversed(_INDEXES):
            op.drop_index(name, table_name="jobs", if_exists=True, postgresql_concurrently=True)
    op.execute("DELETE FROM jobs WHERE search IS NOT NULL OR parent_id IS NOT NULL")
    op.drop_table("trials")
    op.drop_column("jobs", "search")
    op.drop_column("jobs", "parent_id")

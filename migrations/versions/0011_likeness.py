"""What a measured job's model is like: advice on other models reads such jobs."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("likeness", sa.Text(), nullable=True))
    with op.get_context().autocommit_block():
        op.drop_index("ix_jobs_likeness", "jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_jobs_likeness",
            "jobs",
            ["tenant", "likeness", sa.literal_column("finished_at DESC")],
            postgresql_where=sa.text("likeness IS NOT NULL"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("ix_jobs_likeness", "jobs")
    op.drop_column("jobs", "likeness")

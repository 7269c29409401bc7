"""Jobs in a rare state are found without a walk through all of them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(
            "ix_jobs_status", table_name="jobs", if_exists=True, postgresql_concurrently=True
        )
        op.create_index(
            "ix_jobs_status",
            "jobs",
            ["tenant", "status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
            unique=False,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index("ix_jobs_status", table_name="jobs")

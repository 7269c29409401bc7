"""What is old is found without a walk through all rows; graphs of steps may be gone before their job."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES: tuple[tuple[str, str, list[str], str], ...] = (
    ("ix_jobs_finished", "jobs", ["finished_at", "id"], "finished_at IS NOT NULL"),
    ("ix_deliveries_settled", "deliveries", ["created_at"], "status <> 'pending'"),
)


def upgrade() -> None:
    for table in ("models", "datasets"):
        used = sa.Column("used_at", sa.DateTime(timezone=True), nullable=True)
        op.add_column(table, used, if_not_exists=True)
    op.alter_column("steps", "graph_sha256", nullable=True)
    with op.get_context().autocommit_block():
        for name, table, columns, rows in _INDEXES:
            # One that was cut off is there, and not used.
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name, table, columns, postgresql_where=sa.text(rows), postgresql_concurrently=True
            )


def downgrade() -> None:
    op.execute("DELETE FROM steps WHERE graph_sha256 IS NULL")
    op.alter_column("steps", "graph_sha256", nullable=False)
    for name, table, _, _ in reversed(_INDEXES):
        op.drop_index(name, table_name=table)
    for table in ("datasets", "models"):
        op.drop_column(table, "used_at")

"""Turns, leases and a tenant's artifacts are found without a walk through all rows."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LEASED = "lease_expires_at IS NOT NULL"
_INSPECTING = "status = 'inspecting'"
_INDEXES: tuple[tuple[str, str, list[str], str | None], ...] = (
    ("ix_jobs_turn", "jobs", ["tenant", "priority DESC", "created_at", "id"], "status = 'queued'"),
    ("ix_jobs_leased", "jobs", ["lease_expires_at"], _LEASED),
    ("ix_models_turn", "models", ["tenant", "created_at"], _INSPECTING),
    ("ix_models_leased", "models", ["lease_expires_at"], _LEASED),
    ("ix_datasets_turn", "datasets", ["tenant", "created_at"], _INSPECTING),
    ("ix_datasets_leased", "datasets", ["lease_expires_at"], _LEASED),
    ("ix_artifacts_tenant", "artifacts", ["tenant"], None),
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, table, columns, rows in _INDEXES:
            # One that was cut off is there, and not used.
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                table,
                [sa.literal_column(column) for column in columns],
                postgresql_where=None if rows is None else sa.text(rows),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name, table, _, _ in reversed(_INDEXES):
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)

"""Deliveries that are next are found without a walk through all that wait."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_PENDING = "status = 'pending'"
_INDEXES: tuple[tuple[str, list[str], str], ...] = (
    ("ix_deliveries_oldest", ["tenant", "not_before"], _PENDING),
    ("ix_deliveries_turn", ["tenant", "webhook_id", "not_before"], _PENDING),
    (
        "ix_deliveries_held",
        ["tenant", "webhook_id"],
        f"{_PENDING} AND lease_expires_at IS NOT NULL",
    ),
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, columns, rows in _INDEXES:
            # One that was cut off is there, and not used.
            op.drop_index(
                name, table_name="deliveries", if_exists=True, postgresql_concurrently=True
            )
            op.create_index(
                name,
                "deliveries",
                columns,
                postgresql_where=sa.text(rows),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    for name, _, _ in reversed(_INDEXES):
        op.drop_index(name, table_name="deliveries")

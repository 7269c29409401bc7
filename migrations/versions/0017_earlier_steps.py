"""Steps have a key, by which the result of an earlier one is found."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("steps", sa.Column("key", sa.Text(), nullable=True), if_not_exists=True)
    with op.get_context().autocommit_block():
        # One that was cut off is there, and not used.
        op.drop_index(
            "ix_steps_key", table_name="steps", if_exists=True, postgresql_concurrently=True
        )
        op.create_index(
            "ix_steps_key",
            "steps",
            ["tenant", "key"],
            postgresql_where=sa.text("key IS NOT NULL"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(
            "ix_steps_key", table_name="steps", if_exists=True, postgresql_concurrently=True
        )
    op.drop_column("steps", "key")

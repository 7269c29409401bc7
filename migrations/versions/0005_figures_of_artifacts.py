"""An artifact has the figures of its own runtime."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("runtime", sa.Text(), nullable=True))
    op.add_column(
        "artifacts", sa.Column("ran", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.add_column("artifacts", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("artifacts", sa.Column("max_error", sa.Float(), nullable=True))
    op.add_column("artifacts", sa.Column("latency_ms", sa.Float(), nullable=True))
    op.add_column("artifacts", sa.Column("quality", postgresql.JSONB(), nullable=True))
    op.add_column("artifacts", sa.Column("fidelity", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    for name in ("fidelity", "quality", "latency_ms", "max_error", "reason", "ran", "runtime"):
        op.drop_column("artifacts", name)

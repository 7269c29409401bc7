"""Price lists of models, which later jobs take."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_COUNT = """
    CREATE FUNCTION count_price_lists() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO counters (name, label, value)
            SELECT 'stored_bytes', OLD.tenant, -OLD.size_bytes;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO counters (name, label, value)
            SELECT 'stored_bytes', NEW.tenant, NEW.size_bytes;
        END IF;
        RETURN NULL;
    END $$
"""


def upgrade() -> None:
    op.create_table(
        "price_lists",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "measured_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models.id"],
            name=op.f("fk_price_lists_model_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_price_lists_sha256")),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_price_lists")),
    )
    op.create_index(op.f("ix_price_lists_model_id"), "price_lists", ["model_id"])
    op.create_index(op.f("ix_price_lists_sha256"), "price_lists", ["sha256"])
    op.execute(_COUNT)
    op.execute(
        "CREATE TRIGGER count_price_lists AFTER INSERT OR DELETE OR UPDATE OF size_bytes"
        " ON price_lists FOR EACH ROW EXECUTE FUNCTION count_price_lists()"
    )


def downgrade() -> None:
    op.execute("DELETE FROM price_lists")  # so that they are counted no more
    op.execute("DROP TRIGGER count_price_lists ON price_lists")
    op.execute("DROP FUNCTION count_price_lists")
    op.drop_table("price_lists")

"""Samples that were made from a model are kept for the job or search that they were made for."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0025"
down_revision: str | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "made_samples",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("generated", JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_made_samples_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name=op.f("fk_made_samples_sha256")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_made_samples")),
    )
    op.create_index(op.f("ix_made_samples_sha256"), "made_samples", ["sha256"])
    add = "INSERT INTO counters (name, label, value) SELECT 'stored_bytes',"
    op.execute(f"""
        CREATE FUNCTION count_made_samples() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                {add} NEW.tenant, NEW.size_bytes;
            ELSE
                {add} OLD.tenant, -OLD.size_bytes;
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER count_made_samples AFTER INSERT OR DELETE ON made_samples"
        " FOR EACH ROW EXECUTE FUNCTION count_made_samples()"
    )


def downgrade() -> None:
    op.execute("DELETE FROM made_samples")  # so that they are counted no more
    op.execute("DROP TRIGGER count_made_samples ON made_samples")
    op.execute("DROP FUNCTION count_made_samples")
    op.drop_table("made_samples")

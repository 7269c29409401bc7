"""Figures are kept as they change: bytes stored by tenant, finished jobs by status."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_FINISHED = "CASE WHEN {row}.status IN ('succeeded', 'failed', 'cancelled') THEN 1 ELSE 0 END"
_ARRIVING = "CASE WHEN {row}.sha256 IS NULL THEN {row}.length ELSE 0 END"
_COUNTED: tuple[tuple[str, str, str, str, str], ...] = (
    # table, figure, its label, what a row counts, the columns that this depends on
    ("models", "stored_bytes", "tenant", "{row}.size_bytes + {row}.copies_bytes", "size_bytes, copies_bytes"),
    ("datasets", "stored_bytes", "tenant", "{row}.size_bytes", "size_bytes"),
    ("artifacts", "stored_bytes", "tenant", "{row}.size_bytes", "size_bytes"),
    ("steps", "stored_bytes", "tenant", "{row}.size_bytes", "size_bytes"),
    ("uploads", "stored_bytes", "tenant", _ARRIVING, "sha256, length"),
    ("jobs", "finished_jobs", "status", _FINISHED, "status"),
)


def upgrade() -> None:
    zero = sa.text("0")
    op.create_table(
        "counters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counters")),
    )
    op.create_index("ix_counters_name", "counters", ["name", "label"])
    op.add_column("models", sa.Column("copies_bytes", sa.BigInteger(), server_default=zero, nullable=False))
    op.add_column("steps", sa.Column("tenant", sa.Text(), nullable=True))
    op.add_column("steps", sa.Column("size_bytes", sa.BigInteger(), server_default=zero, nullable=False))
    for table, name, label, value, columns in _COUNTED:
        op.execute(_function(table, name, label, value))
        op.execute(
            f"CREATE TRIGGER count_{table} AFTER INSERT OR DELETE OR UPDATE OF {columns} ON {table}"
            f" FOR EACH ROW EXECUTE FUNCTION count_{table}()"
        )


def _function(table: str, name: str, label: str, value: str) -> str:
    taken, given = value.format(row="OLD"), value.format(row="NEW")
    add = "INSERT INTO counters (name, label, value) SELECT"
    return f"""
        CREATE FUNCTION count_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' AND OLD.{label} IS NOT NULL AND ({taken}) <> 0 THEN
                {add} '{name}', OLD.{label}, -({taken});
            END IF;
            IF TG_OP <> 'DELETE' AND NEW.{label} IS NOT NULL AND ({given}) <> 0 THEN
                {add} '{name}', NEW.{label}, {given};
            END IF;
            RETURN NULL;
        END $$
    """


def downgrade() -> None:
    for table, *_ in _COUNTED:
        op.execute(f"DROP TRIGGER count_{table} ON {table}")
        op.execute(f"DROP FUNCTION count_{table}")
    op.drop_column("steps", "size_bytes")
    op.drop_column("steps", "tenant")
    op.drop_column("models", "copies_bytes")
    op.drop_table("counters")

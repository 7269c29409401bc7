"""What was stored before figures were kept is counted, with no table locked.

A statement sees each row together with what its trigger has counted, so the difference is what was
there before the triggers. Copies and steps of earlier versions have no size, and count nothing.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("""
        INSERT INTO counters (name, label, value)
        SELECT name, label, sum(value) FROM (
            SELECT 'stored_bytes' AS name, tenant AS label, size_bytes + copies_bytes AS value FROM models
            UNION ALL SELECT 'stored_bytes', tenant, size_bytes FROM datasets
            UNION ALL SELECT 'stored_bytes', tenant, size_bytes FROM artifacts
            UNION ALL SELECT 'stored_bytes', tenant, size_bytes FROM steps WHERE tenant IS NOT NULL
            UNION ALL SELECT 'stored_bytes', tenant, length FROM uploads WHERE sha256 IS NULL
            UNION ALL SELECT 'finished_jobs', status, 1 FROM jobs
                WHERE status IN ('succeeded', 'failed', 'cancelled')
            UNION ALL SELECT name, label, -value FROM counters
                WHERE name IN ('stored_bytes', 'finished_jobs')
        ) AS each GROUP BY name, label HAVING sum(value) <> 0
    """)
    op.execute("""
        INSERT INTO counters (name, label, value)
        SELECT name, method, sum(value) FROM (
            SELECT 'step_seconds' AS name, report->>'method' AS method,
                (report->>'seconds')::double precision AS value FROM steps WHERE report IS NOT NULL
            UNION ALL SELECT 'steps', report->>'method', 1 FROM steps WHERE report IS NOT NULL
        ) AS each GROUP BY name, method
    """)


def downgrade() -> None:
    op.execute("DELETE FROM counters")

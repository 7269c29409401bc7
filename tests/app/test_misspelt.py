"""Variables that are meant as settings and are none are named."""

import pytest

from app.misspelt import unknown


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (["RETENTION_JOB_DAYS"], "RETENTION_JOB_DAYS (nearest: RETENTION_JOBS_DAYS)"),
        (["webhook_timeout_second"], "webhook_timeout_second (nearest: WEBHOOK_TIMEOUT_SECONDS)"),
        (["WORKER_Q", "LEASE_SECOND"], "LEASE_SECOND (nearest: LEASE_SECONDS), WORKER_Q"),
        (["RETENTION_JOBS_DAYS", "retention_tenants", "RETENTION", "LEASE", "HOME", "PATH"], ""),
        (["PLANISH_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "STORAGEURL"], ""),
    ],
)
def test_only_what_begins_as_a_setting_and_is_none_is_named(
    variables: list[str], said: str
) -> None:
    assert unknown(dict.fromkeys(variables, "1")) == said


def test_of_many_some_are_named() -> None:
    assert unknown({f"QUOTA_{n}": "1" for n in range(99)}).endswith(" and 89 more")

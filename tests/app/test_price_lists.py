"""A model's price list is given to jobs that choose otherwise, and goes with the model."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, update

from app.blobs import Blob
from app.store import blob_rows, price_lists, retention, runs, stats
from app.store.claims import Claim
from app.store.measured import DAYS
from app.store.tables import JobRow, PriceListRow
from tests.app.claiming import MAKER, claim_next
from tests.app.service import Service, sha256

PRUNED = {"method": "prune", "ratio": 0.3}
QUOTA = 10**9


def claim(service: Service, maker: str | None = MAKER, **asked: Any) -> Claim:
    """File a job, and let a worker claim it."""
    service.job(**asked)
    return claim_next(service, maker)


def keep(service: Service, claimed: Claim, content: bytes = b"prices", quota: int = QUOTA) -> str:
    """Keep a list of the job's last step; return its digest."""
    blob = Blob(sha256(content), len(content), "")
    known = claimed.price_lists[max(claimed.price_lists)]
    with service.store.begin() as session:
        runs.keep_price_list(session, claimed, known.key, blob, quota)
    return blob.sha256


def asked_of(service: Service, **more: Any) -> dict[str, Any]:
    common = {"model": service.model(), "dataset": service.dataset(), "seed": 3}
    return {**common, "steps": [{"method": "quantize"}], **more}


def given(claimed: Claim) -> list[str | None]:
    return [each.sha256 for each in claimed.price_lists.values()]


def test_a_job_that_chooses_otherwise_is_given_the_list(service: Service) -> None:
    asked = asked_of(service)
    first = claim(service, **asked)
    assert given(first) == [None]
    digest = keep(service, first)
    for other in (
        {"steps": [{"method": "quantize", "prefer": "size"}]},
        {"require": {"max_quality_drop": 0.5}},
    ):
        assert given(claim(service, **{**asked, **other})) == [digest]
    assert given(claim(service, **{**asked, "steps": [PRUNED]})) == [], "it makes no choice"


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"evaluate": {"metric": "f1"}},
        {"dataset": None},
        {"steps": [{"method": "quantize", "own_grids": False}]},
        {"steps": [PRUNED, {"method": "quantize"}]},
    ],
    ids=["seed", "metric", "data", "parameters", "graph"],
)
def test_prices_of_something_else_are_not_given(service: Service, other: dict[str, Any]) -> None:
    asked = asked_of(service)
    keep(service, claim(service, **asked))
    assert given(claim(service, **{**asked, **other})) == [None]


def test_another_machine_or_tenant_has_prices_of_its_own(service: Service) -> None:
    asked = asked_of(service)
    keep(service, claim(service, **asked))
    assert given(claim(service, "another machine", **asked)) == [None]
    assert given(claim(service, None, **asked)) == [], "nothing is taken where that is switched off"
    with service.store.begin() as session:
        session.execute(update(PriceListRow).values(tenant="other"))
    assert given(claim(service, **asked)) == [None]


def test_a_list_is_replaced_and_goes_with_its_model_and_with_time(service: Service) -> None:
    asked = asked_of(service)
    first = claim(service, **asked)
    with service.store() as session:
        before = stats.stored_bytes(session, "acme")
    old, new = keep(service, first, b"prices"), keep(service, first, b"prices and more")
    with service.store() as session:
        assert stats.stored_bytes(session, "acme") == before + len(b"prices and more")
        assert blob_rows.unreferenced(session, [old, new]) == 1
        assert new in blob_rows.of_tenant(session, "acme")
    second = claim(service, **{**asked, "tags": ["again"]})
    assert given(second) == [new]
    for job in (first.id, second.id):
        service.http.post(f"/v1/jobs/{job}/cancel").raise_for_status()
        service.finish(job)
        service.http.delete(f"/v1/jobs/{job}").raise_for_status()
    with service.store() as session:
        assert session.query(PriceListRow).count() == 1, "it outlives its job"
    service.http.delete(f"/v1/models/{asked['model']}").raise_for_status()
    with service.store() as session:
        assert session.query(PriceListRow).count() == 0


def test_a_job_that_adds_nothing_takes_nothing_from_the_list(service: Service) -> None:
    asked = asked_of(service)
    keep(service, claim(service, **asked))
    idle, busy = (claim(service, **{**asked, "tags": [tag]}) for tag in ("idle", "busy"))
    longer = keep(service, busy, b"prices and more")
    keep(service, idle, b"prices")
    assert given(claim(service, **{**asked, "tags": ["later"]})) == [longer]


def test_old_lists_are_deleted_and_measured_again(service: Service) -> None:
    asked = asked_of(service)
    keep(service, claim(service, **asked))
    with service.store.begin() as session:
        long_ago = func.now() - timedelta(days=DAYS + 1)
        session.execute(update(PriceListRow).values(measured_at=long_ago))
        retention.forget_expired(session, idempotency_hours=24)
    assert given(claim(service, **asked)) == [None]


def test_lists_are_few_and_within_the_quota(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_lists, "MOST", 2)
    asked = asked_of(service)
    keep(service, claim(service, **asked), quota=100)
    with service.store() as session:
        assert session.query(PriceListRow).count() == 0, "it would exceed the quota"
    claims = [claim(service, **{**asked, "seed": seed}) for seed in range(3)]
    for claimed in claims:
        keep(service, claimed)
    with service.store() as session:
        kept = {row.key for row in session.query(PriceListRow)}
    assert kept == {claimed.price_lists[0].key for claimed in claims[1:]}


def test_trials_push_no_list_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_lists, "MOST", 4)
    asked = asked_of(service)
    search = claim(service, **asked)
    keep(service, search)
    trials = [claim(service, **{**asked, "seed": 10 + seed}) for seed in range(3)]
    with service.store.begin() as session:
        ids = [trial.id for trial in trials]
        session.execute(update(JobRow).where(JobRow.id.in_(ids)).values(parent_id=search.id))
    kept = [keep(service, trial, b"of a trial") for trial in trials]
    with service.store() as session:
        keys = {row.key for row in session.query(PriceListRow)}
    assert keys == {search.price_lists[0].key, trials[0].price_lists[0].key}, "half is left to jobs"
    longer = keep(service, trials[0], b"of a trial and more")
    assert longer not in kept
    assert given(claim(service, **{**asked, "seed": 10, "tags": ["later"]})) == [longer]

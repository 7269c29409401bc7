"""Which deliveries are next: tenants take turns, then webhooks, then age, however much waits."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from app.domain import ids
from app.store import delivery_turns
from app.store.delivery_turns import DUE_PER_TENANT, DUE_PER_WEBHOOK
from app.store.session import Sessions
from app.store.tables import DeliveryRow
from tests.workers.hooks import hook

WEIGHTS = {"tenant 0": 2.0, "tenant 1": 0.05}


@dataclass(frozen=True)
class Waiting:
    """A delivery that waits, or that a worker holds."""

    tenant: str
    webhook: str
    due_in: float
    """In seconds; negative if it is due."""
    held: bool = False


def store_all(store: Sessions, all_of_them: list[Waiting]) -> dict[str, Waiting]:
    """Write deliveries; return them by id."""
    now = datetime.now(UTC)
    by_id = {ids.new("dlv"): each for each in all_of_them}
    with store.begin() as session:
        session.add_all(
            DeliveryRow(
                id=delivery_id,
                tenant=each.tenant,
                webhook_id=each.webhook,
                event="job.succeeded",
                message_id=delivery_id,
                payload="{}",
                not_before=now + timedelta(seconds=each.due_in),
                lease_expires_at=now + timedelta(hours=1) if each.held else None,
            )
            for delivery_id, each in by_id.items()
        )
    return by_id


def in_turns(all_of_them: dict[str, Waiting]) -> list[str]:
    """Return the deliveries that are next, as the rule is said in words."""
    calls = Counter(each.webhook for each in all_of_them.values() if each.held)
    turns = Counter(each.tenant for each in all_of_them.values() if each.held)
    free = {key: each for key, each in all_of_them.items() if not each.held and each.due_in < 0}
    of_tenant: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    for key, each in sorted(free.items(), key=lambda item: item[1].due_in):
        calls[each.webhook] += 1
        if calls[each.webhook] <= DUE_PER_WEBHOOK:
            of_tenant[each.tenant].append((calls[each.webhook], each.due_in, key))
    order = []
    for tenant, those in of_tenant.items():
        weight = WEIGHTS.get(tenant, 1.0)
        most = max(DUE_PER_TENANT * weight, 1)
        for number, (_, due_in, key) in enumerate(sorted(those), turns[tenant] + 1):
            if number <= most:
                order.append((number / weight, due_in, key))
    return [key for *_, key in sorted(order)]


@pytest.mark.parametrize("seed", range(5))
def test_the_next_ones_are_those_that_the_rule_says(store: Sessions, seed: int) -> None:
    chance = random.Random(seed)
    hooks = {
        hook(store, "https://a.example/", f"tenant {number}"): f"tenant {number}"
        for number in range(6)
        for _ in range(chance.randint(1, 4))
    }
    waiting = [
        Waiting(tenant, webhook, chance.uniform(-1000, 300), chance.random() < 0.1)
        for webhook, tenant in hooks.items()
        for _ in range(chance.choice((0, 1, 3, 20)))
    ]
    expected = in_turns(store_all(store, waiting))
    with store() as session:
        for limit in (1, 5, 16):
            assert delivery_turns.due(session, limit, WEIGHTS) == expected[:limit]
    assert expected


def test_a_tenant_of_little_weight_has_a_call_at_a_time(store: Sessions) -> None:
    webhook = hook(store, "https://a.example/", "tenant 1")
    sent = store_all(store, [Waiting("tenant 1", webhook, -number - 1) for number in range(3)])
    with store() as session:
        assert delivery_turns.due(session, 16, WEIGHTS) == [list(sent)[-1]]


def test_webhooks_that_wait_for_their_next_attempt_hide_none(store: Sessions) -> None:
    """A tenant has many failing one-off webhooks, a long backlog, and one webhook with news."""
    later = [hook(store, "https://dead.example/", job_id=None) for _ in range(150)]
    busy, quiet = (hook(store, "https://alive.example/") for _ in range(2))
    waiting = [Waiting("t", webhook, 60) for webhook in later]
    waiting += [Waiting("t", busy, -1000 - number) for number in range(100)]
    sent = store_all(store, [*waiting, Waiting("t", quiet, -1)])
    last = list(sent)[-1]
    with store() as session:
        looks = [delivery_turns.due(session, 16) for _ in range(60)]
    assert all(len(due) >= DUE_PER_WEBHOOK for due in looks), "the backlog goes on"
    assert any(last in due[:2] for due in looks), "each look has a fair chance to see it"

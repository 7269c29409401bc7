"""How long it takes to list 50 of 100,000 jobs, over HTTP, first page and deep ones, by filter.

All jobs are copies of a finished one, so that each has its figures, its report and an artifact.
"""

import statistics
import time

import httpx

from benchmarks._report import Bar, conclude
from benchmarks._service import Stores, client, finish, stores, submit, upload
from tests.e2e.service import small_model

JOBS = 100_000
PAGE = 50
ROUNDS = 40
DEEP_PAGES = 20

_COPIES = {
    "jobs": """
        INSERT INTO jobs SELECT copy.* FROM jobs, generate_series(1, {jobs}) AS number,
        jsonb_populate_record(jobs, jsonb_build_object(
            'id', 'job_' || number,
            'created_at', jobs.created_at - number * interval '1 second',
            'status', CASE WHEN mod(number, 1000) = 0 THEN 'failed'
                WHEN mod(number, 5000) = 1 THEN 'cancelled' ELSE 'succeeded' END,
            'model_id', 'mdl_' || mod(number, 1000),
            'tags', jsonb_build_array('tag-' || mod(number, 500), 'all')
        )) AS copy""",
    "artifacts": """
        INSERT INTO artifacts SELECT copy.* FROM artifacts, generate_series(1, {jobs}) AS number,
        jsonb_populate_record(artifacts, jsonb_build_object(
            'id', 'art_' || number, 'job_id', 'job_' || number
        )) AS copy""",
}
_FILTERS = {
    "all": {},
    "status, nearly all": {"status": "succeeded"},
    "status, 100 jobs": {"status": "failed"},
    "status, 20 jobs": {"status": "cancelled"},
    "model, 100 jobs": {"model": "mdl_7"},
    "tag, 200 jobs": {"tag": "tag-7"},
    "tag, every job": {"tag": "all"},
    "status and model": {"status": "succeeded", "model": "mdl_7"},
    "status and tag": {"status": "succeeded", "tag": "tag-7"},
    "nothing has it": {"tag": "none"},
    "queued, there is none": {"status": "queued"},
}


def fill(store: Stores) -> None:
    with (
        store.gateway() as gateway,
        store.worker("light"),
        store.worker("jobs"),
        client(gateway) as http,
    ):
        finish(http, submit(http, upload(http, small_model())))
    for statement in _COPIES.values():
        store.rows(statement.format(jobs=JOBS))
    store.rows("VACUUM ANALYZE")


def deep_cursor(http: httpx.Client, chosen: dict[str, str]) -> str | None:
    """Return the cursor after many pages of 200, or the last one that there is."""
    cursor: str | None = None
    for _ in range(DEEP_PAGES):
        place = {"cursor": cursor} if cursor else {}
        following = http.get("/v1/jobs", params={**chosen, **place, "limit": 200}).json()
        if following["next_cursor"] is None:
            break
        cursor = following["next_cursor"]
    return cursor


def milliseconds(http: httpx.Client, chosen: dict[str, str]) -> float:
    began = time.perf_counter()
    http.get("/v1/jobs", params={**chosen, "limit": PAGE}).raise_for_status()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    with stores() as store:
        fill(store)
        with store.gateway() as gateway, client(gateway) as http:
            asked = dict(_FILTERS)
            for name, chosen in _FILTERS.items():
                if cursor := deep_cursor(http, chosen):
                    asked[f"{name}, deep"] = {**chosen, "cursor": cursor}
            rounds = [
                {name: milliseconds(http, chosen) for name, chosen in asked.items()}
                for _ in range(ROUNDS)
            ]
    bars = [
        Bar(name, "ms", statistics.median(each[name] for each in rounds), 20, "under")
        for name in asked
    ]
    conclude("list_jobs", bars, rounds=rounds)


if __name__ == "__main__":
    main()

"""The API's description is complete, and changes only on purpose.

``UPDATE_SNAPSHOTS=1 pytest tests/app/test_openapi.py`` writes it anew.
"""

import json
import os
from pathlib import Path
from typing import Any

from app.domain.problems import kinds
from app.main import create_app
from app.settings import Settings

SNAPSHOT = Path(__file__).parents[1] / "openapi.json"


def described() -> dict[str, Any]:
    schema: dict[str, Any] = create_app(Settings()).openapi()
    return schema


def test_the_description_is_as_it_was_agreed() -> None:
    text = json.dumps(described(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(text)
    assert text == SNAPSHOT.read_text(), "changed: see this module's docstring"


def test_every_call_is_described_with_its_problems() -> None:
    for path, operations in described()["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert len(operation["tags"]) == 1, (method, path)
            if not path.startswith("/v1/"):
                continue
            assert operation["security"], (method, path)
            assert {"401", "403", "422", "503"} <= set(operation["responses"]), (method, path)
            for status, response in operation["responses"].items():
                if status >= "400":
                    [media] = response["content"]
                    assert media == "application/problem+json"


def test_every_kind_of_problem_is_described() -> None:
    text = described()["info"]["description"]
    for kind in kinds():
        assert f"`{kind.type}`" in text, kind


def test_each_post_takes_an_idempotency_key() -> None:
    for path, operations in described()["paths"].items():
        if "post" in operations:
            names = [parameter["name"] for parameter in operations["post"]["parameters"]]
            assert "Idempotency-Key" in names, path

"""Runs a field graph through the engine as a job would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.directory import Result
from app.domain.reports import Report
from tests.workers.field.graphs import Field
from workers.compression.__main__ import main

Compress = Callable[..., Report]
CarryOut = Callable[..., Result]


@pytest.fixture
def carry_out(tmp_path: Path) -> CarryOut:
    """Compress a field graph in ``tmp_path/<name>``, and return how that ended."""

    def run(field: Field, *steps: dict[str, Any], name: str = "job") -> Result:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "upload").write_bytes(field.model)
        if field.data:
            with (directory / "dataset").open("wb") as file:
                np.savez(file, allow_pickle=False, **field.data)
        order = {"kind": "compress", "steps": steps, "threads": 1}
        (directory / "job.json").write_text(json.dumps(order))
        assert main(directory) == 0
        return Result.model_validate_json((directory / "result.json").read_bytes())

    return run


@pytest.fixture
def compress(carry_out: CarryOut) -> Compress:
    """Compress a field graph, and return the report of a job that worked."""

    def run(field: Field, *steps: dict[str, Any], name: str = "job") -> Report:
        result = carry_out(field, *steps, name=name)
        assert result.problem is None, result.problem
        assert result.report is not None
        return result.report

    return run

"""What a worker takes for its share of the machine."""

import os
from pathlib import Path

import pytest

from app.settings import Settings
from workers.machine import processors
from workers.worker import threads

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("most", "expected"),
    [("max", HERE), ("100000", 1), ("150000", 1), ("10000", 1), ("99900000", HERE)],
)
def test_the_quota_of_a_control_group_bounds_the_processors(
    tmp_path: Path, most: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(f"{most} 100000\n")
    assert processors(tmp_path) == expected


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    assert processors(tmp_path) == HERE
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, expected in (("-1", HERE), ("100000", 1)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
        assert processors(tmp_path) == expected


def test_slots_share_the_processors() -> None:
    eight = Settings.model_validate({"worker": {"devices": [f"cuda:{n}" for n in range(8)]}})
    assert threads(eight) == max(1, processors() // 8)
    assert threads(Settings.model_validate({"engine": {"threads": 3}})) == 3

"""Determines how many processors of this machine the process may use."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def processors(cgroup: Path = _CGROUP) -> int:
    """Return how many processors this process may keep busy, at least 1.

    The number is that of the processors it may run on, or the CPU quota of its control group (of
    either version), rounded down, if that is less.

    Args:
        cgroup: where control groups are mounted; in a container, its own.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _quota(cgroup: Path) -> float | None:
    """Return the quota in processors; None if there is none."""
    try:
        most, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        most, period = _first_version(cgroup)
    if most == "max" or int(most) <= 0 or int(period) <= 0:
        return None
    return int(most) / int(period)


def _first_version(cgroup: Path) -> tuple[str, str]:
    try:
        most = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
        period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return "max", "0"
    return most, period

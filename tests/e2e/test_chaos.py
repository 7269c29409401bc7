"""Fifty random faults in a service under load, as ``make chaos`` makes more of them."""

from benchmarks.chaos import chaos

FAULTS = 50
PATIENCE_SECONDS = 600.0
"""A busy machine takes longer."""


def test_nothing_is_lost_doubled_or_different_after_fifty_random_faults() -> None:
    verdict = chaos(PATIENCE_SECONDS, seed=2, most_faults=FAULTS, storage="bucket")
    assert sum(verdict.faults.values()) == FAULTS
    assert verdict.jobs
    assert (verdict.lost, verdict.doubled, verdict.different, verdict.failed) == (0, 0, 0, 0)
    assert (verdict.left_over, verdict.indiscreet, verdict.our_faults) == (0, 0, 0)

"""Random faults in a service under load, as ``make chaos`` makes them, for a short while."""

from benchmarks.chaos import chaos

SECONDS = 20.0
FAULTS = 8
"""At most: a busy machine sees fewer, as each takes the time that it takes."""


def test_nothing_is_lost_doubled_or_different_after_random_faults() -> None:
    verdict = chaos(SECONDS, seed=2, most_faults=FAULTS, storage="bucket")
    assert verdict.faults
    assert verdict.jobs
    assert (verdict.lost, verdict.doubled, verdict.different, verdict.failed) == (0, 0, 0, 0)
    assert verdict.left_over == 0

"""The pruning schedules: the share that is removed at each point of the training."""

from typing import assert_never

from app.domain.steps import Prune


def target(parameters: Prune) -> float:
    """Return the share that is removed at the end of the schedule."""
    requested = parameters.ratio if parameters.granularity == "channel" else parameters.sparsity
    if parameters.schedule == "polynomial" and parameters.final_sparsity is not None:
        return parameters.final_sparsity
    return requested


def part_at(parameters: Prune, done: float) -> int:
    """Return how many of the parts are due, 0 before the first.

    Args:
        parameters: ``begin``, ``end`` and ``iterations``.
        done: the share of the training that is done.
    """
    if done < parameters.begin:
        return 0
    span = (done - parameters.begin) / (parameters.end - parameters.begin)
    return min(parameters.iterations, 1 + int(span * (parameters.iterations - 1)))


def share_of(parameters: Prune, part: int) -> float:
    """Return the share that is removed once a part is done.

    ``polynomial`` is ``s_f + (s_i - s_f)(1 - t)³`` of Zhu & Gupta, "To prune, or not to prune"
    (2017): it removes more in early parts than in late ones.
    """
    last, time = target(parameters), part / parameters.iterations
    match parameters.schedule:
        case "one_shot":
            return last
        case "iterative":
            return last * time
        case "polynomial":
            return last + (parameters.initial_sparsity - last) * (1 - time) ** 3
        case schedule:
            assert_never(schedule)

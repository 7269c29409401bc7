"""How near a result is to the original, in words."""

from app.domain.percentages import percent_kept
from app.domain.reports import Fidelity

_MUCH_LOST = 0.1
"""The share of an output's variance whose loss is told, where another output is judged."""

_NAMED = 3
"""The most outputs that one sentence names."""

_MANY = 1000
"""How many times more need not be told exactly."""


def varies_nowhere(fidelity: Fidelity | None) -> bool:
    """Return whether the original answers all samples alike: then no figure tells what is kept."""
    return (
        fidelity is not None
        and fidelity.bounded == "explained"
        and fidelity.explained is not None
        and fidelity.worst is None
    )


def likeness(fidelity: Fidelity | None, digits: int = 1) -> str:
    """Return the fidelity in words, by the figure that the requirement bounds.

    Where it bounds the variance, the share of equal answers is said too: a file that changes most
    of them does something else.

    Args:
        fidelity: of the result.
        digits: behind the point of what is kept.
    """
    if fidelity is None:
        return "100.0 % of answers are the same"
    if fidelity.explained is None or fidelity.bounded == "agreement":
        return f"{percent_kept(fidelity.agreement, digits)} of answers are the same"
    if varies_nowhere(fidelity):
        little = "" if fidelity.ruined else ", which tells little of other samples"
        return (
            "the original's outputs are the same for all of them, and the result keeps"
            f" {percent_kept(fidelity.explained, digits)} of those{little}"
        )
    if fidelity.commonest is None:
        return _variance(fidelity, digits)
    which = "all" if fidelity.commonest == 1 else percent_kept(fidelity.commonest, 0)
    if fidelity.ruined:
        joined = "and" if fidelity.answers_changed else "but"
        return (
            f"the original gives {which} of them the same answer, the result gives the original's"
            f" to {percent_kept(fidelity.agreement)}, {joined} {_variance(fidelity, digits)}"
        )
    return (
        f"the original gives {which} of them the same answer, so equal answers tell little, and"
        f" {_variance(fidelity, digits)}"
    )


def _variance(fidelity: Fidelity, digits: int = 1) -> str:
    """Return how much of the variance is kept, and where the least."""
    worst, kept = fidelity.worst, percent_kept(fidelity.explained or 0.0, digits)
    sentence = f"the result keeps {kept} of the original's variance"
    if worst is None:
        return sentence
    where = f"output '{worst.output}'"
    if worst.channel is not None:
        where = f"channel {worst.channel} of {where}"
    if fidelity.one_channel_decides and worst.others is not None:
        times = 1 - worst.explained
        said = f"{times:.0f}" if times < _MANY else f"over {_MANY}"
        return (
            f"{sentence}; most of the rest is lost in {where} alone, whose errors are {said} times"
            f" its own variance: all others keep {percent_kept(worst.others, digits)}"
        )
    least = percent_kept(worst.explained, digits)
    return sentence if least == kept else f"{sentence}, least in {where}: {least}"


def lost_beside(fidelity: Fidelity) -> list[str]:
    """Return which outputs besides the judged one lost much, in a sentence, if any did.

    A metric and equal answers say nothing of them.
    """
    poor = [each for each in fidelity.beside or () if 1 - each.explained > _MUCH_LOST]
    kept = [f"'{each.output}' keeps {percent_kept(each.explained)}" for each in poor[:_NAMED]]
    said = f"Outputs that are not judged lost much of the original's variance: {', '.join(kept)}"
    return [said] if poor else []

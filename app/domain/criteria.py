"""The table of criteria of ``prune``, which rate channels or weights: one row each.

How a criterion is computed stands in ``workers/compression/methods/prune/criteria.py``, a row each
as well.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Criterion = Literal[
    "auto",
    "magnitude",
    "taylor",
    "hessian",
    "apoz",
    "lamp",
    "obc",
    "bn_scale",
    "fpgm",
    "random",
]

Granularity = Literal["channel", "unstructured", "n:m", "block"]
"""The units to remove: channels with everything coupled to them, or weights that become zero."""

Source = Literal["nothing", "weights", "activations", "gradients"]
"""The values that a criterion uses. Activations and gradients need data; gradients, a graph that
can be trained."""


class CriterionFacts(NamedTuple):
    """The properties of a criterion, without its computation."""

    source: Source
    granularities: frozenset[Granularity]
    meaning: str
    """A sentence for the docs."""
    instead: str = ""
    """The criterion to use for other granularities."""
    fits_once: bool = False
    """Whether it also adjusts the kept weights, which is done once, at the end."""


CHANNELS: frozenset[Granularity] = frozenset({"channel"})
WEIGHTS: frozenset[Granularity] = frozenset({"unstructured", "n:m", "block"})
ALL = CHANNELS | WEIGHTS

CRITERIA: Mapping[Criterion, CriterionFacts] = {
    "auto": CriterionFacts(
        "weights",
        ALL,
        "For channels `hessian` where there is data and the graph has gradients, else `magnitude`;"
        " for weights `obc` where there is data and all go at once, else `lamp`.",
    ),
    "magnitude": CriterionFacts("weights", ALL, "The norm of the weights (Li et al. 2017)."),
    "taylor": CriterionFacts(
        "gradients",
        ALL,
        "The change of the loss to first order (Molchanov et al. 2019).",
    ),
    "hessian": CriterionFacts(
        "gradients",
        ALL,
        "The change of the loss to second order: squared weights times squared gradients (Optimal"
        " Brain Damage, LeCun et al. 1989).",
    ),
    "apoz": CriterionFacts(
        "activations",
        CHANNELS,
        "How seldom a channel is zero (APoZ, Hu et al. 2016).",
        instead="magnitude",
    ),
    "lamp": CriterionFacts(
        "weights", ALL, "The norm, made comparable between layers (Lee et al. 2021)."
    ),
    "obc": CriterionFacts(
        "activations",
        WEIGHTS,
        "What a weight's absence costs once the others make up for it (Optimal Brain Compression,"
        " Frantar & Alistarh 2022; SparseGPT, 2023).",
        instead="hessian",
        fits_once=True,
    ),
    "bn_scale": CriterionFacts(
        "weights",
        CHANNELS,
        "The scale of the normalisation behind a channel (Network Slimming, Liu et al. 2017).",
        instead="magnitude",
    ),
    "fpgm": CriterionFacts(
        "weights",
        CHANNELS,
        "The distance to all other filters of its layer (He et al. 2019).",
        instead="magnitude",
    ),
    "random": CriterionFacts("nothing", ALL, "Chance: the control."),
}

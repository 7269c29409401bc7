"""Parts of a job's request: what it may take, what its worker must have, what a search is for."""

import math
from collections.abc import Collection, Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.domain.frozen import Asked
from app.domain.searches import Goal, StrategyName
from app.domain.webhooks import SigningSecret, WebhookUrl

MINUTES_PER_WEEK = 7 * 24 * 60

MOST_LABELS = 21
"""Labels that a job may require, a target of workers among them."""

Label = Annotated[str, Field(min_length=1, max_length=64)]

Seed = Annotated[
    int,
    Field(
        ge=0,
        le=2**32 - 1,
        description="What is random follows it, such as which samples are held out: the same seed"
        " repeats a job, but for what is timed.",
    ),
]

DeviceKind = Literal["cpu", "cuda"]


def device_kind(device: str) -> DeviceKind:
    """Return the kind of a worker's device: ``cuda`` of ``cuda:1``."""
    return "cuda" if device.startswith("cuda") else "cpu"


class Require(Asked):
    """What the result must keep; a job that misses it fails and keeps its artifacts."""

    max_quality_drop: float | None = Field(
        title="Quality may drop by",
        default=None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Absolute for scores in 0-1 (0.01 is one point), relative for errors. Without"
        " targets it bounds what differs from the original: the share of answers that are not the"
        " same where the output holds class scores or labels, else the share of variance that is"
        " lost.",
    )


class Limits(Asked):
    """How long a job may wait and run, in minutes; fractions are allowed."""

    pending_minutes: float = Field(
        title="Minutes to wait at most",
        description="Then the job fails.",
        default=24 * 60,
        gt=0,
        le=MINUTES_PER_WEEK,
        allow_inf_nan=False,
    )
    running_minutes: float = Field(
        title="Minutes to run at most",
        description="Then it is stopped, and fails.",
        default=120,
        gt=0,
        le=MINUTES_PER_WEEK,
        allow_inf_nan=False,
    )


class Requires(Asked):
    """What the worker that runs a job must have."""

    device: DeviceKind | None = Field(
        title="Kind of device",
        default=None,
        description="The kind of device that it computes on. Default: any.",
    )
    labels: list[Label] = Field(
        title="Labels of the worker",
        default=[],
        max_length=MOST_LABELS,
        description="Its operator's names for what it has: all of them.",
    )

    @property
    def words(self) -> str:
        """The requirements, as a part of a sentence."""
        device = [f"the device '{self.device}'"] if self.device else []
        return " and ".join([*device, *(f"the label '{label}'" for label in self.labels)])

    def lacking(self, workers: Iterable[tuple[DeviceKind, Collection[str]]]) -> bool:
        """Return whether something is required that none of these devices with labels has."""
        return bool(self.words) and not any(
            self.device in {None, device} and set(self.labels) <= set(labels)
            for device, labels in workers
        )


class OneOffWebhook(Asked):
    """An address to tell about this job alone."""

    url: WebhookUrl = Field(title="Address", description="It is called when the job ends.")
    secret: SigningSecret | None = Field(
        title="Signing secret",
        default=None,
        description="whsec_… in base64, 24 to 64 bytes. Without one it is made, and returned once.",
    )


class Budget(Asked):
    """How long a search may go on."""

    trials: int = Field(default=20, ge=1, le=1000, description="Pipelines that are tried.")
    minutes: float = Field(
        default=30,
        gt=0,
        le=MINUTES_PER_WEEK,
        allow_inf_nan=False,
        description="From the start of the first trial; then what runs is ended.",
    )
    at_once: int = Field(
        title="Trials at once",
        default_factory=lambda found: _at_once(found.get("trials", 1)),
        ge=1,
        le=1000,
        description="Trials that run at one time at most, where there are as many workers. A trial"
        " is chosen before the last ones of so many are known, however many run, so that the same"
        " search finds the same with any number of workers. Default: as many as there are workers"
        " for it when it is submitted, and the square root of 'trials' at most.",
    )

    def among(self, workers: int) -> Self:
        """Return the budget of a search that so many workers can run; what is asked for stays."""
        if "at_once" in self.model_fields_set:
            return self
        return self.model_copy(update={"at_once": max(min(self.at_once, workers), 1)})


def _at_once(trials: int) -> int:
    """Return how many trials run at once at most, where a search does not say it: more of many."""
    return max(round(math.sqrt(trials)), 1)


class Objective(Asked):
    """What to search for, in place of steps."""

    minimize: Goal = Field(
        title="Make less of", description="Latency is measured, on the runtime of 'deliver'."
    )
    subject_to: Require = Field(
        default=Require(),
        description="What the result must keep. Default: it may lose a point of quality.",
    )
    budget: Budget = Budget()
    strategy: StrategyName = Field(
        title="How the next one is chosen",
        default="guided",
        description="How the next trial is chosen: by what is expected of each pipeline, at random,"
        " by regularised evolution, by Optuna's TPE or NSGA-II, with widths or bits of layers that"
        " reinforcement learns (AMC, HAQ), with longer trainings for the best of many short ones"
        " (successive halving), or by networks that are taken out of one that was"
        " trained for it (Once-for-all).",
    )

    @model_validator(mode="after")
    def _strategy_fits(self) -> Self:
        if self.strategy == "haq" and self.minimize != "size":
            raise ValueError("'haq' learns in how many bits weights are stored: minimize 'size'")
        return self

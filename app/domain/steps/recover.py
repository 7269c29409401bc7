"""How a step trains the graph after it has changed it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.domain.frozen import Asked
from app.domain.steps.base import Needs, searched

Loss = Literal["labels", "teacher", "both"]

Optimizer = Literal["adamw", "sgd"]

Change = Literal["flip", "shift", "mix"]
"""How a picture is changed: in ways that keep what it shows, or mixed with another one."""

MIXED_LABELS = (
    "mixed images ('mix' in 'augment') have no label: learn from the teacher alone, or leave 'mix'"
    " out"
)


class Recover(Asked):
    """Train the compressed graph until quality is back, or time is up."""

    epochs: int = Field(
        default=10, ge=1, le=1000, description="Passes over the training split, at most."
    )
    minutes: float = Field(
        title="Minutes at most",
        default=30,
        gt=0,
        le=7 * 24 * 60,
        allow_inf_nan=False,
        description="Training stops after this time, and the best state so far is kept.",
    )
    learning_rate: float | None = Field(
        title="Learning rate",
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="Its peak. Default: found for the model and the optimizer.",
    )
    loss: Loss | None = Field(
        title="What it learns from",
        default=None,
        description="Against the targets, the original model's outputs, or both. Default: both"
        " where the dataset has classes as targets and images are not mixed, else the teacher.",
    )
    optimizer: Optimizer = Field(default="adamw", description="AdamW, or SGD with momentum 0.9.")
    batch_size: int | None = Field(
        title="Samples in a batch",
        default=None,
        ge=1,
        le=65_536,
        description="Samples of one step. Default: up to 128, fewer of large ones, of few,"
        " or of those that are made from the model.",
    )
    augment: list[Change] | None = Field(
        title="Changes of images",
        default=None,
        max_length=3,
        description="Images are mirrored, moved by up to an eighth, or mixed: a part of another one"
        " is pasted in, and the teacher says what it sees. Default: mixed where samples are made"
        " from the model; mirrored where the teacher knows them mirrored too, for a student that is"
        " built; else nothing.",
    )

    @model_validator(mode="after")
    def _mixes_without_labels(self) -> Self:
        if self.mixes and self.loss in ("labels", "both"):
            raise ValueError(MIXED_LABELS)
        return self

    @property
    def mixes(self) -> bool:
        """Whether it is asked to mix images; then only the teacher knows what they show."""
        return "mix" in (self.augment or ())

    @property
    def needs(self) -> Needs:
        """Training on labels needs them; the teacher needs inputs alone."""
        labels = self.loss in ("labels", "both")
        return Needs(data="targets" if labels else "inputs", trainable=True)


EPOCHS = {"epochs": {"low": 1, "high": 20, "log": True}}
"""What a search varies of a recovery."""

Afterwards = Annotated[
    Recover | None,
    Field(
        title="Train afterwards",
        description="Training afterwards.",
        json_schema_extra=searched(within=EPOCHS),
    ),
]
"""The training that a step may have once its graph is changed; searches vary it."""


def training_minutes(recover: Recover | None, macs: int, samples: int) -> float:
    """Estimate how long a recovery takes: forward and backward cost about six times the MACs."""
    if recover is None:
        return 0.0
    return min(recover.minutes, recover.epochs * samples * macs * 6 / 2e10 / 60)

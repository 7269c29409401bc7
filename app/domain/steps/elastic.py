"""The parameters of ``supernet`` and ``subnet``: one training, and many networks out of it."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from app.domain.steps.base import (
    ALL_SAVINGS,
    Forecast,
    Ignored,
    Multiple,
    Needs,
    Outlook,
    Saving,
    Share,
    Step,
    left_alone,
    searched,
)
from app.domain.steps.recover import EPOCHS, Recover, training_minutes

_NETWORKS = 4
"""The networks that are trained in each step: the largest, the smallest and two at random."""

_JUDGING = 1.6
"""The minutes in which networks are judged, at most."""


NO_BLOCKS = (
    "it is for networks of residual blocks, such as ResNet, MobileNetV2 and transformers, and this"
    " model has none"
)
"""Why a model has no use for sub-networks: without blocks, 'prune' makes the same networks."""


_TRAINING = Recover(epochs=40)
"""Many networks that are trained at one time take more epochs than one does."""


class Supernet(Step):
    """Train the model so that networks can be taken out of it.

    The channels of each layer are put in the order of their importance. Then the first channels
    alone, and the first residual blocks of each stage alone, learn to answer as the whole does
    (Once-for-all, Cai et al. 2020). The model stays as large as it was: let ``subnet`` follow.
    """

    title: ClassVar[str] = "Elastic supernet"
    gentler: ClassVar[str] = "train longer ('recover')"
    provides: ClassVar[tuple[str, ...]] = ("elastic",)
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered", "sparse")

    method: Literal["supernet"] = "supernet"
    ignore: Ignored = Field(default=[])
    recover: Recover = Field(
        title="How it is trained",
        default=_TRAINING,
        description="How it is trained. An epoch takes about four times as long as another"
        " training's.",
        json_schema_extra=searched(within=EPOCHS),
    )

    @field_validator("recover", mode="before")
    @classmethod
    def _in_more_epochs(cls, training: object) -> object:
        if isinstance(training, dict):
            return {"epochs": _TRAINING.epochs, **training}
        return training

    @property
    def place(self) -> int:
        """First: what is taken out of it comes next."""
        return 0

    @property
    def saves(self) -> frozenset[Saving]:
        """Nothing by itself."""
        return frozenset()

    @property
    def needs(self) -> Needs:
        """The model's own answers teach; labels help where they are there."""
        return Needs(data=self.recover.needs.data, trainable=True)

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate the training, of several networks at a time."""
        minutes = _NETWORKS * training_minutes(self.recover, graph.macs, graph.samples)
        return Forecast(
            size_bytes=graph.size_bytes,
            macs=graph.macs,
            minutes=round(0.1 + min(minutes, self.recover.minutes), 3),
            skipped=left_alone(graph.layers, self.ignore),
        )


class Subnet(Step):
    """Take a smaller network out of a supernet; it needs no training.

    Widths and depths are tried in episodes, each judged on samples. Then the statistics of the
    normalisations are measured anew. ``supernet`` has to stand before it.
    """

    title: ClassVar[str] = "Sub-network"
    gentler: ClassVar[str] = "lower 'ratio', or train afterwards ('recover')"
    provides: ClassVar[tuple[str, ...]] = ("pruned",)
    refuses: ClassVar[tuple[str, ...]] = ("quantized", "clustered", "sparse")
    follows: ClassVar[tuple[str, ...]] = ("elastic",)

    method: Literal["subnet"] = "subnet"
    ratio: Share = Field(
        title="Share to do without",
        default=0.5,
        description="The fraction of 'of' that the network does without.",
        json_schema_extra=searched(low=0.1, high=0.9),
    )
    of: Literal["macs", "parameters", "size"] = Field(
        title="Share of what", default="macs", description="What 'ratio' is a fraction of."
    )
    multiple: Multiple | None = Field(
        title="Channels in multiples of",
        default=None,
        description="Each layer that is cut keeps a multiple of so many channels, as with 'prune'."
        " Default: what the job's 'target' asks for, or 8.",
    )
    recover: Recover | None = Field(
        title="Train afterwards",
        default=None,
        description="Training afterwards, which it does without as a rule.",
    )

    @property
    def place(self) -> int:
        """After the supernet, before ranks and bits."""
        return 1

    @property
    def saves(self) -> frozenset[Saving]:
        """A smaller network takes fewer bytes, less work and less time."""
        return ALL_SAVINGS

    @property
    def needs(self) -> Needs:
        """Networks are judged on inputs, in torch; recovery needs what it asks for."""
        if self.recover is not None:
            return self.recover.needs
        return Needs(data="inputs", trainable=True)

    def forecast(self, graph: Outlook) -> Forecast:
        """Estimate the network from its ratio."""
        return Forecast(
            size_bytes=int(graph.size_bytes * (1 - self.ratio)),
            macs=int(graph.macs * (1 - self.ratio)),
            minutes=round(_JUDGING + training_minutes(self.recover, graph.macs, graph.samples), 3),
            skipped=left_alone(graph.layers, []),
        )

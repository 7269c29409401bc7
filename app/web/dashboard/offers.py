"""What forms offer of what a job may ask for: that which this deployment can do."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from app.services import devices, targets
from app.services.listing import Walk
from app.services.targets import Offer
from app.web.dashboard import draft
from app.web.dashboard.forms import Field
from app.web.dashboard.visitor import Visitor

_DEVICES = 100


@dataclass(frozen=True)
class Offers:
    """Where results may be meant for, and the formats that they may have."""

    deployments: list[Offer]
    """All of them; those that lack something here say what."""
    devices: list[str]
    """The names of the tenant's devices."""
    formats: Collection[str]

    @property
    def lacking(self) -> Mapping[str | None, str]:
        """Why nothing can be measured for some deployments, by their names."""
        return {each.target: each.lacking for each in self.deployments if each.lacking}

    def fields(self, names: tuple[str, ...]) -> Sequence[Field]:
        """Return some fields of a request, with the choices that can be delivered."""
        possible = {
            "deliver": self.formats,
            "target": [
                *(each.target for each in self.deployments if not each.lacking),
                *self.devices,
            ],
        }
        return [
            replace(field, choices=[*possible[name]]) if name in possible else field
            for name, field in draft.of_request(names).items()
        ]


def offers(visitor: Visitor) -> Offers:
    """Return what the deployment can do at this moment."""
    with visitor.call.transaction() as session:
        return Offers(
            deployments=targets.deployments(session),
            devices=[
                each.name for each in devices.listed(session, visitor.tenant, Walk(_DEVICES)).items
            ],
            formats=sorted(targets.deliverable(session)),
        )

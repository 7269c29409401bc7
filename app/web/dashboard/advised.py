"""What the form of a job begins with: recommendations for the model that was chosen."""

from dataclasses import dataclass, field

from pydantic import ValidationError

from app.domain.fault_words import in_words
from app.domain.problems import Problem
from app.domain.recommendations import Recommendation
from app.services import advice
from app.services.wishes import Wish
from app.web.dashboard import places
from app.web.dashboard.visitor import Visitor


@dataclass(frozen=True)
class Advised:
    """Recommendations, or why there are none."""

    items: list[Recommendation] = field(default_factory=list)
    obstacle: str | None = None


def advised(visitor: Visitor, model: str, wish: Wish) -> Advised:
    """Return what is advised for a model of the visitor's; nothing while none is chosen."""
    if not model:
        return Advised()
    try:
        with visitor.call.transaction() as session:
            return Advised(advice.recommend(session, visitor.tenant, model, wish).items)
    except Problem as fault:
        return Advised(obstacle=" ".join(places.sentences(fault)))
    except ValidationError as error:  # what was typed makes no request
        first = error.errors()[0]
        pointer = "#/" + "/".join(str(part) for part in first["loc"])
        return Advised(obstacle=f"{places.named(pointer)}: {in_words(first)}.")

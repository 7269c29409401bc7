"""A chart of sensitivity, as small as one can be."""

from app.domain.reports import Machine
from app.domain.sensitivity import FORMS, ChartLayer, Saved, Sensitivity


def chart(cost: float) -> Sensitivity:
    """A chart of one layer that half of its channels can be taken from, at a cost."""
    form = next(form for form in FORMS if form.name == "channels_50")
    saved = Saved(size_bytes=500, macs=4000, latency_ms=0.3, latency_from="macs")
    layer = ChartLayer(
        name="conv", operator="Conv", parameters=300, macs=10_000, size_bytes=1000, latency_ms=1.0
    )
    machine = Machine(
        system="Linux",
        processor="x86",
        cores=2,
        memory_bytes=1,
        instruction_sets=[],
        device="cpu",
    )
    return Sensitivity(
        layers=[layer],
        forms=[form],
        cost=[[cost]],
        answers=None,
        saved=[[saved]],
        reasons=[[None]],
        samples=8,
        seed=0,
        seconds=1,
        threads=1,
        runtime="onnxruntime",
        machine=machine,
        versions={},
    )

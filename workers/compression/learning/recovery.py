"""Trains a graph that a step has changed, until it answers as well as before.

::

    model = recover(model, parameters.recover, context, advance)

is all that a method needs to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn

from app.domain.problems import DatasetMismatch, StepFailed
from app.domain.steps.recover import Loss, Recover
from workers.compression.executor import Executor, build, write_back
from workers.compression.graph.load import load
from workers.compression.learning import objectives
from workers.compression.learning.choice import head_start
from workers.compression.learning.feed import Batch, Feed, Outputs, feed_for
from workers.compression.learning.loop import train
from workers.compression.learning.portions import batch_size, divide
from workers.compression.learning.renormalise import LEAST_RUN, Renormalised, candidates
from workers.compression.learning.task import Task
from workers.compression.learning.teacher import Answers, answers, probe
from workers.compression.learning.trainable import measured
from workers.compression.measure import quality
from workers.compression.measure.evaluation import quality_of
from workers.compression.samples.context import Context, Samples

Constrain = Callable[[Executor, float], None]
"""Puts weights back to where they must be; told the share of the training that is done."""

LEAST_ZEROS = 0.05
"""Share of a weight that makes its zeros deliberate."""


def recover(
    model: ir.Model,
    wish: Recover,
    context: Context,
    advance: Callable[[float], None],
    *,
    constrain: Constrain | None = None,
    settled: float = 0.0,
    rates: Mapping[str, float] | None = None,
    teacher: Path | None = None,
    name: str = "recovery",
) -> ir.Model:
    """Train a graph's weights on the training split, and write the best ones into it.

    Zeros of a sparse weight (a twentieth of it or more) stay. Scales of quantization and statistics
    of normalisation are left alone.

    Args:
        model: in normal form; its initializers change, and nothing else.
        wish: how to train.
        context: the samples, the teacher (``original``), seed, device, workspace.
        advance: told the fraction done.
        constrain: called after each step, without gradient.
        settled: the share of the training from which a state may be kept; earlier ones, the start
            included, are not what is asked for yet.
        rates: factors of the learning rate by initializer: 0 leaves it alone, and a scale that is
            named is trained.
        teacher: the graph to imitate in place of the original.
        name: of the training, where a step trains more than once: each goes on by itself after a
            killed process.

    Returns:
        ``model``.

    Raises:
        DatasetMismatch: targets and output do not fit each other.
        StepFailed: there is no data, no weight that can be trained, or training goes astray.
    """
    samples = context.train
    if samples is None:
        raise StepFailed("Training needs a dataset: name one, or leave 'recover' out.")
    torch.set_num_threads(context.threads)  # sums depend on it
    executor = build(model).to(context.device)
    feed = feed_for(model, executor, samples, context.device, wish.augment or ())
    lent = None
    if not rates and constrain is None and _normalises(model, feed, wish, context):
        lent = Renormalised(model, feed)
        executor = build(lent.model).to(context.device)
        feed = feed_for(model, executor, samples, context.device, wish.augment or ())
    learner = lent.model if lent else model
    parameters = trained(learner, executor, rates or {})
    task = Task(
        parameters=parameters,
        forward=executor,
        loss=_loss(model, executor, feed, wish, context, teacher or context.original),
        rates={name: factor for name, factor in (rates or {}).items() if name in parameters},
        constrain=holding(executor, parameters, constrain),
        settled=settled,
        yardstick=quality.yardstick(model, samples.targets, context.evaluate),
        head_start=_head_start(feed, context),
        exact=_is_exact(model),
    )
    if lent:
        task = _normalised(task, lent, executor, context.device)
    train(task, feed, wish, context, advance, name)
    write_back(executor, learner)
    if lent:
        lent.fold(model)
    return model


def _normalised(task: Task, lent: Renormalised, executor: Executor, device: str) -> Task:
    """Return a task whose runs look at the batch, and keep the statistics of it."""
    statistics = {name: executor.weight(name) for name in lent.statistics}
    return replace(
        task,
        parameters={**task.parameters, **statistics},
        forward=lent.learning(executor, device),
        normalised=True,
    )


def _normalises(model: ir.Model, feed: Feed, wish: Recover, context: Context) -> bool:
    """Return whether normalisation is put back: for classes, by batches that are large enough."""
    rows, _ = divide(feed, context.seed)
    run = min(feed.size, batch_size(feed, wish, len(rows)))
    classes = default_loss(feed.samples) == "both"
    return classes and run >= LEAST_RUN and not _is_exact(model) and bool(candidates(model))


def _head_start(feed: Feed, context: Context) -> float:
    """Return by how much the samples that are set aside flatter what was not trained on others yet.

    A dataset is often what the original was made with. It knows these samples by heart then, and so
    does what a step has made of it; a training on the others forgets them.
    """
    if context.original is None or context.unseen is None:
        return 0.0
    samples = feed.samples.take(divide(feed, context.seed)[1])
    known = quality_of(context.original, samples, context.threads, context.evaluate)
    return 0.0 if known is None else head_start(known, context.unseen)


def _is_exact(model: ir.Model) -> bool:
    """Return whether a graph is trained through its rounding."""
    return any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in model.graph)


def default_loss(samples: Samples) -> Loss:
    """Return what is trained against where the user does not say."""
    classes = samples.targets is not None and samples.targets.dtype.kind in "iub"
    return "both" if classes else "teacher"


def trained(
    model: ir.Model, executor: Executor, rates: Mapping[str, float]
) -> dict[str, nn.Parameter]:
    """Return what is trained, by initializer; the rest needs no gradient any more."""
    fixed = measured(model)
    found = {}
    for name in executor.names:
        parameter = executor.weight(name)
        single = parameter.dtype in {torch.float32, torch.float64}
        wanted = rates.get(name, 0.0 if name in fixed else 1.0) > 0
        parameter.requires_grad_(parameter.requires_grad and single and wanted)
        if parameter.requires_grad:
            found[name] = parameter
    if not found:
        raise StepFailed(
            "The model has no float32 weight that can be trained: leave 'recover' out, or upload"
            " it in float32."
        )
    return found


def holding(
    executor: Executor, parameters: Mapping[str, nn.Parameter], constrain: Constrain | None = None
) -> Callable[[float], None]:
    """Return what puts weights back after a step: zeros of sparse ones, then what constrains."""
    zeros = _sparse(parameters)

    def hold(done: float) -> None:
        for each, mask in zeros:
            each.mul_(mask)
        if constrain is not None:
            constrain(executor, done)

    return hold


def _sparse(parameters: Mapping[str, nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the weights with deliberate zeros, and what is not zero in them."""
    kept = []
    for each in parameters.values():
        mask = each.detach() != 0
        share = 1 - float(mask.float().mean())
        if each.ndim >= 2 and LEAST_ZEROS <= share < 1:
            kept.append((each, mask))
    return kept


def _loss(
    model: ir.Model,
    executor: Executor,
    feed: Feed,
    wish: Recover,
    context: Context,
    path: Path | None,
) -> Callable[[Outputs, Batch], Tensor]:
    """Put together what is minimised."""
    spoken_of = quality.judged_output(model, context.evaluate)
    kind = wish.loss or default_loss(feed.samples)
    terms: list[objectives.Term] = []
    told: Answers = lambda _batch: {}  # noqa: E731 (nobody teaches)
    if kind in ("labels", "both"):
        outputs, targets = probe(executor, feed)
        if targets is None:
            raise DatasetMismatch("The dataset has no targets: train with 'loss': 'teacher'.")
        yardstick = quality.yardstick(model, feed.samples.targets, context.evaluate)
        terms.append(objectives.labels(spoken_of, outputs[spoken_of], targets, yardstick))
    if kind in ("teacher", "both"):
        assert path is not None, "a context without the original cannot teach"
        teacher = build(load(path)).to(context.device).requires_grad_(requires_grad=False)
        outputs, targets = probe(teacher, feed)
        imitated = objectives.imitation(outputs, targets, spoken_of, objectives.TEMPERATURE)
        terms.append(objectives.mean(imitated))
        told = answers(teacher, feed)

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        taught = told(batch)
        return torch.stack([term(outputs, taught, batch.targets) for term in terms]).sum()

    return loss

"""One training loop for recovery, distillation and training with quantization.

::

    feed = feed_for(model, executor, samples, device)      # how many samples one run takes
    train(Task(parameters, executor, loss), feed, wish, context, advance)

What is trained is a mapping of parameters, a function that runs the graph and one that judges its
outputs. See ``workers.compression.recovery`` for the whole of it around a graph.
"""

from workers.compression.training.choice import head_start
from workers.compression.training.feed import Batch, Feed, Forward, Outputs, feed_for
from workers.compression.training.loop import train
from workers.compression.training.portions import batch_size, divide
from workers.compression.training.task import Task

__all__ = [
    "Batch",
    "Feed",
    "Forward",
    "Outputs",
    "Task",
    "batch_size",
    "divide",
    "feed_for",
    "head_start",
    "train",
]

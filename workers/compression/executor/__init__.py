"""The executor: a graph in normal form as a torch module, trained and written back.

::

    executor = build(model)                        # nn.Module, a parameter per float initializer
    outputs = executor({"image": images})          # by value name, differentiable
    loss(outputs["logits"]).backward()
    write_back(executor, model)                    # parameters into the initializers, by name

What torch has no function of ours for runs through ``onnx.reference`` without gradient and is named
in ``executor.frozen``.
"""

from workers.compression.executor.module import Executor, build, write_back

__all__ = ["Executor", "build", "write_back"]

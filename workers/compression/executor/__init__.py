"""The executor: a graph in normal form as a torch module, trained and written back.

::

    executor = build(model)                        # nn.Module, a parameter per float initializer
    outputs = executor({"image": images})          # by value name, differentiable
    loss(outputs["logits"]).backward()
    write_back(executor, model)                    # parameters into the initializers, by name

An operator without a torch function runs through ``onnx.reference``, without a gradient. Such nodes
are listed in ``executor.frozen``.
"""

from workers.compression.executor.module import Executor, build, write_back

__all__ = ["Executor", "build", "write_back"]

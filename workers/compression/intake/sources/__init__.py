"""Files of other frameworks, and how each becomes an ONNX graph.

One module a framework: it opens the file and returns a ``Program``, a torch module with named
inputs and outputs. ``conversion`` exports that and compares the graph with the framework's answers.
"""

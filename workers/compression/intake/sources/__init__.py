"""Readers of files of other frameworks, which become ONNX graphs.

One module a framework: it opens the file and returns a ``Program``, a torch module with named
inputs and outputs. ``conversion`` exports it and compares the outputs of graph and framework.
"""

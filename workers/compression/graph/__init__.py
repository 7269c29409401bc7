"""Reads, writes, describes, rewrites and compares graphs, in memory as `onnx_ir.Model`."""

"""A graph in memory is an `onnx_ir.Model`: read, written, described, rewritten, compared."""

"""Recognises an upload's format by its bytes, and reads ONNX graphs."""

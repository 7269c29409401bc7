"""What an upload is, by its bytes, and how an ONNX graph is read."""

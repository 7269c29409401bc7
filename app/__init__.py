"""The gateway, and the words and stores that it shares with workers; never torch or onnx."""

"""From weights to the tracker's graphs, in ONNX and for LiteRT, and their reference."""

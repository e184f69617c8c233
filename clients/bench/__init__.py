"""Load on a model three ways, to be compared in one run: bare ONNX Runtime, Triton directly, the sampling service."""

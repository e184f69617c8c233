from ganvas_core import telemetry  # noqa: F401  before ONNX Runtime is imported

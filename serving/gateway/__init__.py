"""The front door: Envoy before the sampling service and Triton, configured from the options of serve."""

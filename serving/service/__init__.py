"""The sampling service: ganvas.v1.Sampler over Triton, in a process of its own."""

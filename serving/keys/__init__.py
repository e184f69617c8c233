"""API keys: made once, kept as hashes, read by the gateway."""

"""The model repository from the serving side: read, checked, verified, listed."""

"""Triton as a process: which one, how it is started, what it says of itself, how it is stopped."""

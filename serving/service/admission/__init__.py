"""What the service takes on, and in which order: work and waiting time, shares of a caller, bytes of messages."""

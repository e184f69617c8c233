"""`./ganvas tune`: the configuration of a model that serves most on this machine within a bound of its latency."""

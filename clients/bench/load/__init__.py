"""The load generator: processes of its own, closed loops and open ones, latency from the moment a call was due."""

from clients.bench.load.job import Call, GeneratorError, LoadJob, LoadReport
from clients.bench.load.run import RunningLoad, run_load

__all__ = ["Call", "GeneratorError", "LoadJob", "LoadReport", "RunningLoad", "run_load"]

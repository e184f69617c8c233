"""What the demo measures of one model, each next to bare ONNX Runtime in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clients.bench.bare import BareJob, run_bare
from clients.bench.load import Target, closed_loop, direct_target, service_target
from clients.bench.result import LoadResult
from clients.local_server import LocalServer
from ganvas_client import Sampler
from ganvas_core.certificate import Certificate

SECONDS = 2.0
NUM_CALLERS = 32
SERVICE_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """One column of the table."""

    name: str
    training_s: float
    certificate: Certificate
    golden: str
    service_one: LoadResult
    """One caller, one image a request, through the service."""
    service_sixteen: LoadResult
    """One caller, 16 images a request, through the service."""
    direct_one: LoadResult
    """One caller, one image a request, straight to Triton."""
    direct_many: LoadResult
    """32 callers, one image a request, straight to Triton."""
    service_many: LoadResult
    """4 callers, 16 images a request, through the service."""
    bare: LoadResult
    """ONNX Runtime in a process of its own, 16 images a call, one compute thread, hot."""


def measure_model(
    name: str, sampler: Sampler, server: LocalServer, model_file: Path, *, training_s: float
) -> ModelFigures:
    """Short measurements, one after another, of a model that is being served."""
    info = sampler.model(name)
    one = service_target(server.service, name, batch_size=1)
    sixteen = service_target(server.service, name, batch_size=SERVICE_BATCH)
    direct = direct_target(server.triton_grpc, name, batch_size=1, num_labels=len(info.labels))

    def load(target: Target, concurrency: int) -> LoadResult:
        return closed_loop(target, concurrency=concurrency, seconds=SECONDS, warmup_s=0.5)

    return ModelFigures(
        name=name,
        training_s=training_s,
        certificate=info.certificate(),
        golden=info.golden,
        service_one=load(one, 1),
        service_sixteen=load(sixteen, 1),
        direct_one=load(direct, 1),
        direct_many=load(direct, NUM_CALLERS),
        service_many=load(sixteen, 4),
        bare=run_bare(BareJob(model=str(model_file), batch_size=SERVICE_BATCH, seconds=SECONDS)),
    )

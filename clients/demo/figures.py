"""What the demo measures of one model, each next to bare ONNX Runtime in the same run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from clients.bench.load import LoadJob, LoadReport, run_load
from clients.bench.targets import Target, golden_rows
from clients.bench.targets.inprocess import ONNX_ENTRY
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
    service_one: LoadReport
    """One caller, one image a request, through the service."""
    service_sixteen: LoadReport
    """One caller, 16 images a request, through the service."""
    direct_one: LoadReport
    """One caller, one image a request, straight to Triton."""
    direct_many: LoadReport
    """32 callers, one image a request, straight to Triton."""
    service_many: LoadReport
    """4 callers, 16 images a request, through the service."""
    bare: LoadReport
    """ONNX Runtime in a process of its own, 16 images a call, one compute thread, hot."""


def measure_model(
    name: str, sampler: Sampler, server: LocalServer, model_file: Path, *, training_s: float
) -> ModelFigures:
    """Short measurements, one after another, of a model that is being served."""
    info = sampler.model(name)
    certificate = info.certificate()
    golden = golden_rows(certificate) if info.golden == "exact" else ()

    def load(target: Target, concurrency: int) -> LoadReport:
        return run_load(LoadJob(target=target, kind="closed", concurrency=concurrency, seconds=SECONDS, warmup_s=0.5))

    one = Target(kind="service", address=server.service, model=name, num_labels=len(info.labels), golden=golden)
    sixteen = dataclasses.replace(one, batch_size=SERVICE_BATCH)
    direct = dataclasses.replace(one, kind="kserve", address=server.triton_grpc)
    bare = dataclasses.replace(sixteen, kind="process", address=str(model_file), entry=ONNX_ENTRY)
    return ModelFigures(
        name=name,
        training_s=training_s,
        certificate=certificate,
        golden=info.golden,
        service_one=load(one, 1),
        service_sixteen=load(sixteen, 1),
        direct_one=load(direct, 1),
        direct_many=load(direct, NUM_CALLERS),
        service_many=load(sixteen, 4),
        bare=load(bare, 1),
    )

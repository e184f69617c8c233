"""What is tuned of a configuration: instances, threads, the largest batch that Triton makes, the wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from ganvas_core.cli import UserError

__all__ = ["Setting", "neighbours", "read_setting", "space", "with_setting"]

DELAYS_US = (0, 1000, 4000)
SMALLEST_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One choice of all four."""

    instances: int = 1
    threads: int = 1
    """Of each instance."""
    batch: int
    """Images in the largest batch that Triton makes of waiting requests."""
    delay_us: int = 0
    """The longest wait of a request for others."""

    def __str__(self) -> str:
        return f"{self.instances} x {self.threads} threads, batch {self.batch}, delay {self.delay_us} us"


def space(cores: int, max_batch_size: int) -> list[Setting]:
    """Every setting: no more threads than cores in all, batches of a half and of a quarter."""
    batches = sorted(
        {max_batch_size, max(SMALLEST_BATCH, max_batch_size // 2), max(SMALLEST_BATCH, max_batch_size // 4)}
    )
    return [
        Setting(instances=instances, threads=threads, batch=batch, delay_us=delay_us)
        for instances in range(1, cores + 1)
        for threads in range(1, cores // instances + 1)
        for batch in sorted(batches)
        if batch <= max_batch_size
        for delay_us in DELAYS_US
    ]


def neighbours(settings: Sequence[Setting], best: Setting, axis: Sequence[str]) -> list[Setting]:
    """The settings that differ from one in these fields alone."""
    return [
        other
        for other in settings
        if other != best and replace(other, **{name: getattr(best, name) for name in axis}) == best
    ]


def read_setting(config_text: str, cores: int) -> Setting:
    """What a config.pbtxt says."""
    config = _parse(config_text)
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    threads = int(parameters.get("intra_op_thread_count", "1") or 1)
    count = sum(group.count for group in config.instance_group) or 1
    if parameters.get("instances") == "auto":
        count = max(1, cores // max(1, threads))
    batching = config.dynamic_batching
    return Setting(
        instances=count,
        threads=threads,
        batch=max(batching.preferred_batch_size, default=config.max_batch_size),
        delay_us=batching.max_queue_delay_microseconds,
    )


def with_setting(config_text: str, setting: Setting) -> str:
    """A config.pbtxt with another setting; everything else stays. The model runs on the CPU."""
    config = _parse(config_text)
    config.parameters.pop("instances", None)
    del config.instance_group[:]
    config.instance_group.add(count=setting.instances, kind=triton.ModelInstanceGroup.KIND_CPU)
    config.parameters["intra_op_thread_count"].string_value = str(setting.threads)
    config.dynamic_batching.Clear()
    config.dynamic_batching.SetInParent()
    if setting.batch < config.max_batch_size:
        config.dynamic_batching.preferred_batch_size.append(setting.batch)
    config.dynamic_batching.max_queue_delay_microseconds = setting.delay_us
    return str(text_format.MessageToString(config))


def _parse(config_text: str) -> triton.ModelConfig:
    try:
        return text_format.Parse(config_text, triton.ModelConfig())
    except text_format.ParseError as error:
        raise UserError(f"config.pbtxt is no configuration of a Triton model: {error}.") from None

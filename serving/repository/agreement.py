"""Whether a new configuration may take the place of the one that the versions of a model share.

A model's versions have one configuration, so a version that comes with another changes those that are there. What they
were certified with must stay: a batch size that they were not proven in gives images that nobody has compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from ganvas_core.certificate import Certificate
from ganvas_core.names import FP32_FILE
from serving.repository.reader import RepositoryError

__all__ = ["certified_tensors", "check_agreement", "config_tensors"]

BUCKETS, FILE = "batch_buckets", "default_model_filename"

Tensors = set[tuple[str, str, tuple[int, ...]]]
"""Name, type as Triton writes it, and dimensions without the batch."""


def check_agreement(
    new: ModelConfig,
    old: ModelConfig | None,
    earlier: Mapping[int, Certificate],
    version: int,
    where: str,
    *,
    is_served: bool = True,
) -> None:
    """Check that a new version's configuration leaves the earlier versions of its Triton model what they are.

    Args:
        old: what they have now; None: nothing that can be read.
        earlier: their certificates, by version.
        version: the new one.
        where: the new configuration, as an error names it.
        is_served: it is the one that is served. Any other may name another file: a version without an fp16 file beside
            one that has it is usual.
    Raises:
        RepositoryError: says which field does not, the values and the next step.
    """
    for number, certificate in sorted(earlier.items()):
        for field, certified in _certified(certificate, old if is_served else None).items():
            value = _value(new, field)
            # What is as before, by hand perhaps, is not this version's doing.
            if value != certified and (old is None or value != _value(old, field)):
                raise RepositoryError(
                    f"{where} has {field} {_said(value)}, but it is for version {number} of {certificate.name} too, "
                    f"which needs {_said(certified)}. Export version {version} with the options of version {number}, "
                    "or under another --name."
                )


def config_tensors(tensors: Any) -> Tensors:
    """The inputs or outputs of a configuration."""
    return {(entry.name, DataType.Name(entry.data_type), tuple(entry.dims)) for entry in tensors}


def certified_tensors(certificate: Certificate) -> tuple[Tensors, Tensors]:
    """The inputs and outputs that a certificate means."""
    contract = certificate.interface
    inputs, outputs = (
        {(tensor.name, f"TYPE_{tensor.datatype}", tuple(tensor.dims)) for tensor in tensors}
        for tensors in (contract.inputs, contract.outputs)
    )
    return inputs, outputs


def _certified(certificate: Certificate, old: ModelConfig | None) -> dict[str, Any]:
    """What each field must be for a version."""
    inputs, outputs = certified_tensors(certificate)
    found: dict[str, Any] = {"max_batch_size": certificate.max_batch_size, "input": inputs, "output": outputs}
    if certificate.pinned_batch is not None:
        found[BUCKETS] = str(certificate.pinned_batch)
    if old is not None:  # of several files that it may have, the one that is served must stay
        found[FILE] = _value(old, FILE)
    return found


def _value(config: ModelConfig, field: str) -> Any:
    match field:
        case "input" | "output":
            return config_tensors(getattr(config, field))
        case "default_model_filename":
            return config.default_model_filename or FP32_FILE
        case "batch_buckets":
            return config.parameters[field].string_value if field in config.parameters else ""
    return getattr(config, field)


def _said(value: Any) -> str:
    if isinstance(value, set):
        return ", ".join(f"{name} {kind} {list(dims)}" for name, kind, dims in sorted(value)) or "none"
    return f"{value!r:.60}"

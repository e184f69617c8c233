"""Every file of a version, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from export.adapters.source import Source
from export.graph.build import Graphs
from export.options import ExportOptions
from export.publish.triton_config import CONFIG_NAMES, DEFAULT_CONFIG, config_text
from ganvas_core.certificate import Certificate
from ganvas_core.names import CERTIFICATE_FILE, CONFIG_FILE, FP16_FILE, Role

__all__ = ["version_files"]


def version_files(
    source: Source,
    graphs: Graphs,
    certificates: Mapping[Role, Certificate],
    options: ExportOptions,
    *,
    version: int,
    sampler_files: Mapping[str, bytes],
) -> dict[str, dict[str, bytes]]:
    """Triton model to its files, by their path in the model's folder.

    Args:
        sampler_files: what goes with the sampler alone, by file name: golden.png, report.html.
    """
    models: dict[str, dict[str, bytes]] = {}
    for role, certificate in certificates.items():
        files: dict[str, bytes] = {}
        for config_name in CONFIG_NAMES:
            text = config_text(
                config_name,
                certificate.name,
                source.interface(role),
                options,
                pinned_batch=certificate.pinned_batch,
                has_fp16=FP16_FILE in certificate.files,
            )
            files[f"configs/{config_name}.pbtxt"] = text.encode()
        files[CONFIG_FILE] = files[f"configs/{DEFAULT_CONFIG}.pbtxt"]
        for file_name in certificate.files:
            files[f"{version}/{file_name}"] = graphs.files[role, file_name].data
        if role == "sample":
            files |= {f"{version}/{file_name}": data for file_name, data in sampler_files.items()}
        files[f"{version}/{CERTIFICATE_FILE}"] = certificate.to_json().encode()
        models[certificate.name] = files
    return models

"""Every file of a version: its content, or for a graph the file that was written of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from export.adapters.source import Source
from export.graph.build import Graphs
from export.options import ExportOptions
from export.publish.onnx_file import GraphFile
from export.publish.triton_config import CONFIG_NAMES, DEFAULT_CONFIG, batch_shapes, config_text
from ganvas_core.certificate import Certificate
from ganvas_core.description import descriptions
from ganvas_core.names import CERTIFICATE_FILE, CONFIG_FILE, FP16_FILE, FP32_FILE, Role

__all__ = ["version_files"]

HEAVY_S = 0.0005
"""From here on computing an image takes longer than its request does in Triton and the gateway."""


def version_files(
    source: Source,
    graphs: Graphs,
    graph_files: Mapping[tuple[Role, str], GraphFile],
    certificates: Mapping[Role, Certificate],
    options: ExportOptions,
    *,
    version: int,
    earlier: Mapping[int, Certificate],
    image_s: float,
    beside: Mapping[Role, Mapping[str, bytes]],
) -> dict[str, dict[str, bytes | Path]]:
    """Triton model to its files, by their path in the model's folder.

    Args:
        graph_files: of each role and file name.
        earlier: the samplers of the versions before, which the configurations describe too.
        image_s: how long the sampler takes for one image.
        beside: what else goes with a role, by file name: golden.png, golden.npy, report.html.
    """
    models: dict[str, dict[str, bytes | Path]] = {}
    samplers = {**earlier, version: certificates["sample"]}
    for role, certificate in certificates.items():
        files: dict[str, bytes | Path] = {}
        served = FP16_FILE if FP16_FILE in certificate.files else FP32_FILE
        shapes = batch_shapes(graphs.files[role, served].model)
        for config_name in CONFIG_NAMES:
            text = config_text(
                config_name,
                certificate.name,
                source.interface(role),
                _placed(options, role, image_s),
                shapes=shapes,
                pinned_batch=certificate.pinned_batch,
                has_fp16=FP16_FILE in certificate.files,
                describe=partial(descriptions, samplers, role),
            )
            files[f"configs/{config_name}.pbtxt"] = text.encode()
        files[CONFIG_FILE] = files[f"configs/{DEFAULT_CONFIG}.pbtxt"]
        for file_name in certificate.files:
            graph = graph_files[role, file_name]
            files[f"{version}/{file_name}"] = graph.path
            if graph.data is not None:
                files[f"{version}/{graph.data.name}"] = graph.data
        files |= {f"{version}/{file_name}": data for file_name, data in beside.get(role, {}).items()}
        files[f"{version}/{CERTIFICATE_FILE}"] = certificate.to_json().encode()
        models[certificate.name] = files
    return models


def _placed(options: ExportOptions, role: Role, image_s: float) -> ExportOptions:
    """Options with one instance instead of `auto` where more would not pay.

    Beside a server on the same processors, more instances of a model that computes faster than a request travels make
    it slower. Decode and encode are asked for less, and every instance is a process.
    """
    if options.instances or (role == "sample" and image_s >= HEAVY_S):
        return options
    return dataclasses.replace(options, instances=1)

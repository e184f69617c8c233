"""A checkpoint in PyTorch, eager or compiled, in the load generator's process: what `./ganvas bench --target pytorch`
measures. The noise is made in NumPy; the images are those of the exported graph within its proof's bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganvas_core import noise
from training.run.checkpoint import load_model


def open_checkpoint(folder: str, *, threads: int, mode: str) -> Callable[[dict[str, NDArray[Any]]], NDArray[np.uint8]]:
    """The sampler of a checkpoint folder.

    Args:
        mode: eager or compiled.
    Raises:
        CheckpointError: it cannot be read.
    """
    torch.set_num_threads(threads)
    model = load_model(Path(folder))
    low, high = model.info.image.range
    latent_shape = model.info.network.latent_shape
    network: Callable[..., Any] = model.generator.eval()
    if mode == "compiled":
        network = torch.compile(network, dynamic=False)

    @torch.inference_mode()
    def compute(inputs: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
        seeds, truncation = inputs["seed"][:, 0], inputs["truncation"][:, 0]
        labels = inputs["label"][:, 0] if "label" in inputs else None
        latents = noise.truncated_latents(seeds, truncation, latent_shape, model.prior, labels)
        given = (torch.from_numpy(latents), *(() if labels is None else (torch.from_numpy(labels),)))
        pixels = (network(*given).clamp(low, high) - low) * (255 / (high - low))
        images: NDArray[np.uint8] = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return images

    return compute

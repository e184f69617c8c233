"""Export from a network that is not a checkpoint of ours: any latent shape and image size, with labels or without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.adapters.source import Source
from export.pipeline import export_model
from ganvas_core import noise
from ganvas_core.interface import decode_inputs, sample_inputs
from ganvas_core.names import FP16_FILE, FP32_FILE
from ganvas_core.session import CpuSession
from tests.unit.export.conftest import options

SHAPE = (4, 2, 3)


class Wide(nn.Module):
    """A [4, 2, 3] latent to a 8x12 image of 4 channels; with labels, one more map of the label; its own truncation."""

    def __init__(self, *, num_labels: int, own_truncation: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(max(num_labels, 1), 4)
        self.up = nn.Sequential(nn.ConvTranspose2d(4, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.to_image = nn.ConvTranspose2d(8, 4, 4, 2, 1)
        self.num_labels, self.own_truncation = num_labels, own_truncation

    def forward(self, *arguments: Tensor) -> Tensor:
        rest = list(arguments)
        z = rest.pop(0)
        psi = rest.pop(0).reshape(-1, 1, 1, 1) if self.own_truncation else None
        if self.num_labels:
            z = z + self.embedding(rest.pop(0))[:, :, None, None]
        hidden = self.up(z)
        if psi is not None:
            hidden = 0.5 + psi * (hidden - 0.5)
        return torch.tanh(self.to_image(hidden))


class Unconditional(Wide):
    def forward(self, z: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(z)


class Conditional(Wide):
    def forward(self, z: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(z, label)


class Truncated(Wide):
    def forward(self, z: Tensor, truncation: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(z, truncation)


@pytest.mark.parametrize("kind", [Unconditional, Conditional, Truncated])
def test_any_network_is_exported_and_proven(tmp_path: Path, kind: type[Wide]) -> None:
    num_labels, own = (3 if kind is Conditional else 0), kind is Truncated
    network = kind(num_labels=num_labels, own_truncation=own).eval()
    source = Source(
        generator=network,
        latent_shape=SHAPE,
        image=(8, 12, 4),
        image_range=(-1.0, 1.0),
        labels=tuple("abc")[:num_labels],
        truncation="network" if own else "latent",
    )
    result = export_model(source, options(tmp_path / "models"))
    certificate = result.certificate
    assert certificate.latent_shape == SHAPE
    assert certificate.truncation == source.truncation
    assert (certificate.height, certificate.width, certificate.channels) == (8, 12, 4)

    seeds, labels = [0, 7, 2**64 - 1], [0, 1, 2] if num_labels else None
    for file_name in (FP32_FILE, FP16_FILE):
        sampler = CpuSession(result.folder / file_name)
        decode = CpuSession(tmp_path / "models" / "digits-decode" / "1" / file_name)
        for psi in (1.0, 0.7):
            (sampled,) = sampler.run(sample_inputs(seeds, psi, labels))
            assert sampled.shape == (3, 8, 12, 4)
            assert sampled.std() > 2
            (decoded,) = decode.run(decode_inputs(noise.truncated_latents(seeds, psi, SHAPE), labels))
            assert (sampled.tobytes() == decoded.tobytes()) == (not own or psi == 1.0)


def test_own_truncation_is_what_the_network_computes(tmp_path: Path) -> None:
    network = Truncated(num_labels=0, own_truncation=True).eval()
    source = Source(
        generator=network, latent_shape=SHAPE, image=(8, 12, 4), image_range=(-1.0, 1.0), truncation="network"
    )
    result = export_model(source, options(tmp_path / "models"))
    (sampled,) = CpuSession(result.folder / FP32_FILE).run(sample_inputs([5], 0.25))
    with torch.no_grad():
        floats = network(torch.from_numpy(noise.latents([5], SHAPE)), torch.full((1, 1), 0.25)).numpy()
    expected = np.rint((floats.transpose(0, 2, 3, 1) + 1) * 127.5)
    assert np.abs(sampled.astype(np.int16) - expected).max() <= 1
    golden = {entry.truncation for entry in result.certificate.files[FP32_FILE].golden}
    assert 1.0 in golden
    assert min(golden) < 1.0

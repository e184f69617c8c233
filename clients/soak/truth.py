"""What every reply must be, to the byte: bare ONNX Runtime over the exported files, in this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.networks import Network
from ganvas_core.certificate import Certificate
from ganvas_core.interface import decode_inputs, sample_inputs
from ganvas_core.names import CERTIFICATE_FILE, FP32_FILE, triton_name
from ganvas_core.session import CpuSession

__all__ = ["Truth"]

BATCH = 16


class Truth:
    """One version of one exported model. Any thread may ask."""

    def __init__(self, repository: Path, network: Network, *, version: int = 1) -> None:
        def session(role: str) -> CpuSession:
            return CpuSession(repository / triton_name(network.name, role) / str(version) / FP32_FILE)  # type: ignore[arg-type]

        self.network = network
        text = (repository / network.name / str(version) / CERTIFICATE_FILE).read_text(encoding="utf-8")
        self._certificate = Certificate.from_json(text)
        self._sample, self._decode = session("sample"), session("decode")
        self._encode = session("encode") if network.can_encode else None
        self._images: dict[tuple[int, float, int | None], bytes] = {}
        self._lock = threading.Lock()

    def labels(self, seeds: Sequence[int], label: int | None = None) -> list[int] | None:
        """The label of each seed's image when the request names `label` or none."""
        if not self.network.num_labels:
            return None
        return [seed % self.network.num_labels if label is None else label for seed in seeds]

    def images(self, seeds: Sequence[int], *, truncation: float = 1.0, label: int | None = None) -> list[bytes]:
        """The raw pixels of every seed's image. What was computed once is kept."""
        with self._lock:
            missing = sorted({seed for seed in seeds if (seed, truncation, label) not in self._images})
            if missing:
                feeds = sample_inputs(missing, truncation, self.labels(missing, label))
                (made,) = self._sample.run_in_batches(feeds, BATCH)
                for seed, image in zip(missing, made, strict=True):
                    self._images[seed, truncation, label] = image.tobytes()
            return [self._images[seed, truncation, label] for seed in seeds]

    def computed(self, seeds: Sequence[int]) -> list[bytes]:
        """As images, of seeds that will not be asked for again: nothing is kept."""
        feeds = sample_inputs(seeds, labels=self.labels(seeds))
        with self._lock:
            (made,) = self._sample.run_in_batches(feeds, BATCH)
        return [image.tobytes() for image in made]

    def walk(self, seeds: Sequence[int], steps: int, *, label: int = 0, truncation: float = 1.0) -> list[bytes]:
        """The frames of a walk that is no loop."""
        places = np.arange((len(seeds) - 1) * steps + 1)
        leg, step = np.divmod(places, steps)
        # The arc of a learned prior is between truncated latents; that of the plain one is truncated.
        learned = self._certificate.prior is not None
        ends = self._certificate.latents(
            np.array(seeds, np.uint64), truncation if learned else 1.0, [label] * len(seeds)
        )
        points = slerp(ends[leg], ends[np.minimum(leg + 1, len(seeds) - 1)], step / steps)
        points = points if learned else points * np.float32(truncation)
        feeds = decode_inputs(points, label if self.network.num_labels else None)
        with self._lock:
            (frames,) = self._decode.run_in_batches(feeds, BATCH)
        return [frame.tobytes() for frame in frames]

    def decoded(self, points: NDArray[np.float32], label: int) -> list[bytes]:
        """The images of latents [N, latent_dim]."""
        with self._lock:
            feeds = decode_inputs(points, label if self.network.num_labels else None)
            (images,) = self._decode.run_in_batches(feeds, BATCH)
        return [image.tobytes() for image in images]

    def posterior(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """mean and logvar [N, latent_dim] of images [N, H, W, C]."""
        assert self._encode is not None, f"{self.network.name} has no encoder"
        with self._lock:
            mean, logvar = self._encode.run_in_batches({"image": pixels}, BATCH)
        return mean, logvar


def slerp(a: NDArray[np.float32], b: NDArray[np.float32], t: NDArray[np.float64]) -> NDArray[np.float32]:
    """Spherical interpolation in float64, rounded once; exactly `a` at t=0. docs/protocol.md's walk, written again.

    Args:
        a, b: [N, D].  t: [N], within [0, 1].
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    angle = np.arccos(np.clip((x * y).sum(axis=1) / lengths, -1.0, 1.0))
    curved = np.sin(angle) > 1e-6  # not between a seed and itself
    sine = np.where(curved, np.sin(angle), 1.0)
    near, far = (np.where(curved, np.sin(part * angle) / sine, part) for part in (1 - t, t))
    points = near[:, None] * x + far[:, None] * y
    return np.where(t[:, None] == 0, a, points).astype(np.float32)

"""The noise in NumPy: latents of seeds without a server, bit for bit those that an exported model draws.

>>> from ganvas_client import noise
>>> noise.latents([42, 2**64 - 1], 2)
array([[0.03051801, 0.3047319 ],
       [2.1700702 , 0.3044391 ]], dtype=float32)

What a model decodes for its seeds: their latents times the truncation, around the means of its prior if it has one.

>>> z = noise.truncated_latents(range(4), 0.7, (64,))
>>> z.shape, z.dtype
((4, 64), dtype('float32'))

`ModelInfo.latents` fills in a model's own latent_shape, prior and labels. docs/rng.md specifies the noise.
"""

from ganvas_core.noise import ALGORITHM, bits, latents, truncated_latents
from ganvas_core.prior import Mixture

__all__ = ["ALGORITHM", "Mixture", "bits", "latents", "truncated_latents"]

"""A network of anyone's against what was said of it, before anything is exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from export.adapters.source import Source
from export.errors import InputError, first_line
from ganvas_core import noise

__all__ = ["check_source"]

_NUM_IMAGES = 4
_RANGE_SLACK = 1e-3
"""How far images may leave the image range, of its width: rounding takes them back."""


def check_source(source: Source) -> None:
    """Run the network on a few latents, twice.

    Raises:
        InputError: it raises, gives another shape or type than the spec says, images outside of the image range or
            other images the second time, or has weights that are not numbers.
    """
    for part, network in (("network", source.generator), ("encoder", source.encoder)):
        if network is not None:
            _check_weights(part, network)
    inputs = [torch.from_numpy(noise.latents(list(range(_NUM_IMAGES)), source.latent_shape))]
    if source.truncation == "network":
        inputs.append(torch.ones(_NUM_IMAGES, 1))
    if source.labels:
        inputs.append(torch.arange(_NUM_IMAGES) % len(source.labels))

    shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
    images = _call("network", source.generator, inputs, shapes)
    height, width, channels = source.image
    _check_tensor("network", "images", images, (_NUM_IMAGES, channels, height, width), "image, layout")
    _check_same("network", images, _call("network", source.generator, inputs, shapes))
    low, high = source.image_range
    slack = _RANGE_SLACK * (high - low)
    smallest, largest = float(images.min()), float(images.max())
    if smallest < low - slack or largest > high + slack:
        raise InputError(
            f"the spec's image_range is [{low:g}, {high:g}], and the network makes values within "
            f"[{smallest:.4g}, {largest:.4g}]. Give the range it has, or clamp its output to it."
        )
    if source.encoder is not None:
        _check_encoder(source, images)


def _check_encoder(source: Source, images: Tensor) -> None:
    assert source.encoder is not None
    shapes = str(list(images.shape))
    posterior = _call("encoder", source.encoder, [images], shapes)
    if not isinstance(posterior, tuple | list) or len(posterior) != 2:
        raise InputError(f"the encoder must return mean and logvar; got {_describe(posterior)}. Return (mean, logvar).")
    again = _call("encoder", source.encoder, [images], shapes)
    for name, made, second in zip(("mean", "logvar"), posterior, again, strict=True):
        _check_tensor("encoder", name, made, (_NUM_IMAGES, *source.latent_shape), "latent_shape")
        _check_same("encoder", made, second)


def _check_weights(part: str, network: nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and (wrong := int(torch.isnan(tensor).sum())):
            raise InputError(
                f"{name} of the {part} has {wrong} weights that are not a number, of {tensor.numel()}: training "
                "diverged, or the file is damaged. Export an earlier checkpoint."
            )


def _call(part: str, network: nn.Module, inputs: list[Tensor], shapes: str) -> Any:
    try:
        with torch.no_grad():
            return network(*inputs)
    except Exception as error:  # whatever a network of anyone's raises
        raise InputError(
            f"the {part} raised {type(error).__name__} on inputs of {shapes}: {first_line(error)} "
            "Make the spec say what it takes."
        ) from None


def _check_tensor(part: str, name: str, made: Any, shape: tuple[int, ...], fields: str) -> None:
    if not isinstance(made, Tensor):
        raise InputError(f"the {part} must return a tensor of {name}; got {_describe(made)}.")
    if tuple(made.shape) != shape:
        raise InputError(
            f"the spec ({fields}) says {name} of {list(shape)}, and the {part} returns {list(made.shape)}. "
            "Make the two agree."
        )
    if made.dtype != torch.float32:
        raise InputError(
            f"the {part} must return float32 {name}; got {made.dtype}. Call .float() on network and output."
        )
    if wrong := int((~torch.isfinite(made)).sum()):
        raise InputError(
            f"the {part} returns {wrong} values that are not finite, of {made.numel()}: its weights or statistics are "
            "not filled. Load a whole state dict."
        )


def _check_same(part: str, first: Tensor, second: Tensor) -> None:
    if not torch.equal(first, second):
        raise InputError(
            f"the {part} gives other values when it is called again with the same input: there is randomness in "
            "forward (torch.rand, dropout, Python's random). Take noise from the latent, and call .eval()."
        )


def _describe(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__

"""A network of anyone's against what was said of it, before anything is exported."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.adapters.call import call_network
from export.adapters.source import Source
from export.errors import InputError
from ganvas_core import noise

__all__ = ["check_images", "check_source"]

_NUM_IMAGES = 4
_LARGE_BATCH = 16
"""As many as the proof gives PyTorch at once."""
_RANGE_SLACK = 1e-3
"""How far images may leave the image range, of its width: rounding takes them back."""


def check_source(source: Source) -> None:
    """Run the network on a few latents, twice, then with the other labels and in a larger batch.

    Raises:
        InputError: it raises, gives another shape or type than the spec says, images outside of the image range or
            other images the second time, or has weights that are not numbers.
    """
    for part, network in (("network", source.generator), ("encoder", source.encoder)):
        if network is not None:
            _check_weights(part, network)
    height, width, channels = source.image
    inputs = _inputs(source, _NUM_IMAGES)
    images = call_network(
        "network", source.generator, inputs, remedy="Mend forward, or the spec if forward takes something else."
    )
    _check_tensor("network", "images", images, (_NUM_IMAGES, channels, height, width), "image, layout")
    _check_finite("network", source.generator, inputs, images)
    _check_same("network", images, call_network("network", source.generator, inputs))

    # Every seed of the proof is checked like these, so that only what is plain is found here.
    check_images(images.numpy(), source)
    if source.labels:
        last = len(source.labels) - 1
        call_network(
            "network",
            source.generator,
            [*inputs[:-1], torch.linspace(0, last, _NUM_IMAGES).round().long()],
            remedy=f"It takes label 0: the spec says {last + 1} labels, and forward must take all, up to {last}.",
        )
    call_network(
        "network",
        source.generator,
        _inputs(source, _LARGE_BATCH),
        remedy=f"It takes a batch of {_NUM_IMAGES}: make it take a batch of any size.",
    )
    if source.encoder is not None:
        _check_encoder(source.encoder, images, source)


def check_images(images: NDArray[np.float32], source: Source, describe: Callable[[int], str] | None = None) -> None:
    """Hold a network's images against its image range.

    Args:
        images: [N, C, H, W].
        describe: says which image it is that has a number; None: they are not worth telling apart.
    Raises:
        InputError: one leaves the range, or is not finite.
    """
    low, high = source.image_range
    slack = math.inf if source.may_leave_range else _RANGE_SLACK * (high - low)
    by_image = images.reshape(len(images), -1)
    outside = ~(np.isfinite(by_image) & (by_image >= low - slack) & (by_image <= high + slack)).all(axis=1)
    if not outside.any():
        return
    first = int(np.argmax(outside))
    where = f"; the first of {int(outside.sum())} such images, of {len(images)}: {describe(first)}" if describe else ""
    if not np.isfinite(by_image[outside]).all():
        raise InputError(f"the network makes values that are not finite{where}. Mend forward, or train it further.")
    raise InputError(
        f"the spec's image_range is [{low:g}, {high:g}], and the network makes values within "
        f"[{images.min():.4g}, {images.max():.4g}]{where}. Give the range it has, or clamp its output to it."
    )


def _inputs(source: Source, count: int) -> list[Tensor]:
    """Latents of the first seeds, truncation 1 and label 0, as far as the network takes them."""
    inputs = [torch.from_numpy(noise.latents(list(range(count)), source.latent_shape))]
    if source.truncation == "network":
        inputs.append(torch.ones(count, 1))
    if source.labels:
        inputs.append(torch.zeros(count, dtype=torch.int64))
    return inputs


def _check_encoder(encoder: nn.Module, images: Tensor, source: Source) -> None:
    posterior = call_network("encoder", encoder, [images], remedy="Mend its forward, or the spec.")
    if not isinstance(posterior, tuple | list) or len(posterior) != 2:
        raise InputError(f"the encoder must return mean and logvar; got {_describe(posterior)}. Return (mean, logvar).")
    again = call_network("encoder", encoder, [images])
    for name, made, second in zip(("mean", "logvar"), posterior, again, strict=True):
        _check_tensor("encoder", name, made, (_NUM_IMAGES, *source.latent_shape), "latent_shape")
        _check_finite("encoder", encoder, [images], made)
        _check_same("encoder", made, second)
    many = images.repeat(_LARGE_BATCH // _NUM_IMAGES, 1, 1, 1)
    call_network(
        "encoder", encoder, [many], remedy=f"It takes a batch of {_NUM_IMAGES}: make it take a batch of any size."
    )


def _check_weights(part: str, network: nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and (wrong := int(torch.isnan(tensor).sum())):
            raise InputError(
                f"{name} of the {part} has {wrong} weights that are not a number, of {tensor.numel()}: training "
                "diverged, or the file is damaged. Export an earlier checkpoint."
            )


def _check_tensor(part: str, name: str, made: Any, shape: tuple[int, ...], fields: str) -> None:
    if not isinstance(made, Tensor):
        raise InputError(f"the {part} must return a tensor of {name}; got {_describe(made)}. Return that alone.")
    if tuple(made.shape) != shape:
        raise InputError(
            f"the spec ({fields}) says {name} of {list(shape)}, and the {part} returns {list(made.shape)}. "
            "Make the two agree."
        )
    if made.dtype != torch.float32:
        raise InputError(
            f"the {part} must return float32 {name}; got {made.dtype}. Call .float() on network and output."
        )


def _check_finite(part: str, network: nn.Module, inputs: list[Tensor], made: Tensor) -> None:
    """No weight is NaN, so values that are not finite were made on the way: say where."""
    wrong = int((~torch.isfinite(made)).sum())
    if not wrong:
        return
    cause = (
        "forward makes them between its layers. Look for a division by 0, or a root or logarithm of what is below 0."
    )
    if (found := _first_not_finite(network, inputs)) is not None:
        name, module = found
        cause = f"{name} ({type(module).__name__}) is the first layer to make them. "
        statistics = any(buffer.split(".")[-1].startswith("running_") for buffer, _ in module.named_buffers())
        cause += "Fill its running statistics." if statistics else "Look at its weights and at what it is given."
    raise InputError(f"the {part} returns {wrong} values that are not finite, of {made.numel()}: {cause}")


def _first_not_finite(network: nn.Module, inputs: list[Tensor]) -> tuple[str, nn.Module] | None:
    """The first layer, with its name, that makes of finite tensors one that is not."""
    found: list[tuple[str, nn.Module]] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def look(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if _finite(given) and not _finite(made):
                found.append((name, module))

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in network.named_modules() if name]
    try:
        call_network("network", network, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _check_same(part: str, first: Tensor, second: Tensor) -> None:
    if not torch.equal(first, second):
        raise InputError(
            f"the {part} gives other values when it is called again with the same input: there is randomness in "
            "forward (torch.rand, functional.dropout without training=self.training, Python's random, np.random), or "
            "it keeps state. Take all noise from the latent; .eval() was called already."
        )


def _describe(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__

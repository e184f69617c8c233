"""The checkpoint folder, which export reads: model.safetensors (EMA weights), model.json (all else), card.md to read.

Nothing here pickles or unpickles, so a checkpoint from a stranger can at worst be rejected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from ganvas_core.cli import UsageError, describe_validation_error
from ganvas_core.files import atomic_folder, write_synced
from ganvas_core.prior import Mixture
from training.families import FAMILIES
from training.prior import prior_of
from training.run.card import card
from training.run.info import FORMAT, CheckpointInfo

__all__ = [
    "CARD_NAME",
    "INFO_NAME",
    "WEIGHTS_NAME",
    "CheckpointError",
    "LoadedModel",
    "load_model",
    "read_info",
    "save_model",
]

WEIGHTS_NAME = "model.safetensors"
INFO_NAME = "model.json"
CARD_NAME = "card.md"


class CheckpointError(UsageError):
    """A checkpoint that cannot be read or written: the message says which file, why, and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A checkpoint in memory, on the CPU, in eval mode."""

    info: CheckpointInfo
    generator: nn.Module
    """(z [N, *latent_shape] float32, label [N] int64 where conditional) → [N, C, H, W] float32 in info.image.range."""
    encoder: nn.Module | None
    """x [N, C, H, W] float32 in info.image.range → mean and logvar, [N, *latent_shape] each."""
    sha256: str
    """SHA-256 of model.safetensors."""

    @property
    def prior(self) -> Mixture | None:
        """What the generator's latents are drawn from; None: the standard normal."""
        return prior_of(self.generator)


def save_model(
    folder: Path,
    info: CheckpointInfo,
    generator: nn.Module,
    encoder: nn.Module | None = None,
    *,
    others: Mapping[str, bytes] | None = None,
) -> None:
    """Write a whole checkpoint folder, or leave what was there.

    Args:
        others: more files for the folder, by name.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written, or a weight is not finite.
    """
    weights = {name: w.cpu().contiguous() for name, w in _named_tensors(generator, encoder).items()}
    _check_finite(weights, folder)
    data = safetensors.torch.save(weights, metadata={"format": "pt"})
    record = TypeAdapter(CheckpointInfo).dump_python(info, mode="json") | {
        "weights_sha256": hashlib.sha256(data).hexdigest()
    }
    try:
        with atomic_folder(folder) as temporary:
            write_synced(temporary / WEIGHTS_NAME, data)
            write_synced(temporary / INFO_NAME, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
            write_synced(temporary / CARD_NAME, card(info).encode())
            for name, content in (others or {}).items():
                write_synced(temporary / name, content)
    except OSError as error:
        raise CheckpointError(
            f"cannot save the checkpoint in {folder}: {error.strerror or error}. "
            "What was saved before is whole: once that is mended, go on with --resume."
        ) from None


def read_info(folder: Path) -> CheckpointInfo:
    """What model.json of a checkpoint folder says.

    Raises:
        CheckpointError: it is missing, damaged or of a newer format.
    """
    return _read_info(folder / INFO_NAME)[0]


def load_model(folder: Path) -> LoadedModel:
    """Read a checkpoint folder and rebuild its networks.

    Raises:
        CheckpointError: missing, truncated, damaged, of a newer format, a pickle, or weights that do not fit.
    """
    if folder.is_file():
        kind = "a pickle" if _looks_like_pickle(folder.read_bytes()[:4]) else "a file"
        raise CheckpointError(
            f"{folder} is {kind}, not a checkpoint folder. Ganvas reads a folder with {WEIGHTS_NAME} and {INFO_NAME}, "
            "and never unpickles. `./ganvas train` writes one."
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} does not exist. Train one first: ./ganvas train digits-gan --out out/digits-gan"
        )
    info, weights_sha256 = _read_info(folder / INFO_NAME)
    weights, sha256 = _read_weights(folder / WEIGHTS_NAME)
    if weights_sha256 not in (None, sha256):
        raise CheckpointError(
            f"{folder / WEIGHTS_NAME} has SHA-256 {sha256[:16]}…, but {INFO_NAME} says {str(weights_sha256)[:16]}…: "
            "the file was changed or damaged. Train again, or copy the folder again."
        )
    with torch.device("meta"):  # Shapes without memory, until the weights are known to fit.
        generator, encoder = FAMILIES[info.family].build(info.network)
    # Every tensor must be there, of its shape and type, and finite.
    path = folder / WEIGHTS_NAME
    expected = _named_tensors(generator, encoder)
    if missing := sorted(set(expected) - set(weights)):
        raise CheckpointError(
            f"{path} lacks the tensor {missing[0]} ({len(missing)} missing), which {INFO_NAME} needs."
        )
    if unknown := sorted(set(weights) - set(expected)):
        raise CheckpointError(f"{path} has an unknown tensor {unknown[0]} ({len(unknown)} in all).")
    for name, tensor in expected.items():
        found = weights[name]
        if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            raise CheckpointError(
                f"{path}: {name} must be {tensor.dtype} {list(tensor.shape)} by {INFO_NAME}; "
                f"got {found.dtype} {list(found.shape)}."
            )
    _check_finite(weights, path)

    for prefix, module in _parts(generator, encoder).items():
        module.to_empty(device="cpu")
        module.load_state_dict({name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)})
        module.eval()
    return LoadedModel(info=info, generator=generator, encoder=encoder, sha256=sha256)


def _read_info(path: Path) -> tuple[CheckpointInfo, str | None]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: {path.parent} is not a checkpoint folder. `./ganvas train` writes one, OUT/checkpoint."
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from None
    version = record.get("format") if isinstance(record, dict) else None
    if type(version) is not int:
        raise CheckpointError(f"{path} has no integer field 'format'.")
    if version > FORMAT:
        raise CheckpointError(f"{path} has format {version}; this release reads up to {FORMAT}. Upgrade Ganvas.")
    weights_sha256 = record.pop("weights_sha256", None)
    if version == 1:
        _upgrade_format_1(record)
    try:
        # As JSON, since in strict mode pydantic takes a list for a tuple only there.
        return TypeAdapter(CheckpointInfo).validate_json(json.dumps(record)), weights_sha256
    except ValidationError as error:
        raise CheckpointError(f"{path}: {describe_validation_error(error)}") from None


def _upgrade_format_1(record: dict[str, Any]) -> None:
    """Format 1: the one family of GANs was the DCGAN, and a VAE had its layers."""
    if record.get("family") == "gan":
        record["family"] = "dcgan"
    elif record.get("family") == "vae" and isinstance(record.get("network"), dict):
        record["network"] |= {"body": "dcgan", "prior_components": 0}


def _read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}.") from None
    try:
        return safetensors.torch.load(data), hashlib.sha256(data).hexdigest()
    except (SafetensorError, ValueError, KeyError) as error:
        if _looks_like_pickle(data):
            message = f"{path} is a pickle, which Ganvas never reads. Save the weights with `./ganvas train`."
        else:
            message = f"{path} is truncated or damaged: {error}. Copy it again, or train again."
        raise CheckpointError(message) from None


def _looks_like_pickle(data: bytes) -> bool:
    """A pickle of protocol 2 or newer begins with 0x80 and its protocol; torch.save wraps one in a zip file."""
    return data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _parts(generator: nn.Module, encoder: nn.Module | None) -> dict[str, nn.Module]:
    return {"generator.": generator} | ({"encoder.": encoder} if encoder is not None else {})


def _named_tensors(generator: nn.Module, encoder: nn.Module | None) -> dict[str, Tensor]:
    """Parameters and buffers under `generator.` and `encoder.`."""
    return {
        prefix + name: tensor.detach()
        for prefix, module in _parts(generator, encoder).items()
        for name, tensor in module.state_dict().items()
    }


def _check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} holds NaN or infinite weights: the training diverged.")

"""An adapter of the user's own: a Python file with one function that returns a network and its spec."""

from __future__ import annotations

import contextlib
import inspect
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from export.adapters.call import ANY_ERROR, place_of
from export.adapters.distribution import with_distribution
from export.adapters.layout import ChannelsFirstInput, ChannelsFirstOutput
from export.adapters.source import Source
from export.adapters.spec import Spec
from export.adapters.weights import read_weights
from export.errors import InputError, first_line
from ganvas_core.certificate import file_sha256
from ganvas_core.cli import describe_validation_error

__all__ = ["FUNCTION", "load_adapter_file", "source_of"]

FUNCTION = "adapter"
_EXPLAIN = "`./ganvas export --adapter` shows an example."


def load_adapter_file(path: Path, weights: Path | None, *, trust_pickle: bool = False) -> Source:
    """Run an adapter file and take what its function `adapter` returns.

    Args:
        weights: what `adapter(weights)` gets, as a state dict; None where it takes nothing.
    Raises:
        InputError: no such file, not Python, no such function, or it raised or returned something else.
    """
    with _siblings_importable(path):
        return _load(path, weights, trust_pickle=trust_pickle)


def _load(path: Path, weights: Path | None, *, trust_pickle: bool) -> Source:
    function = _function_of(path)
    takes = len(inspect.signature(function).parameters)
    if takes > 1:
        raise InputError(
            f"{FUNCTION}() in {path} must take nothing, or the weights alone; it takes {takes}. {_EXPLAIN}"
        )
    if bool(takes) != (weights is not None):
        told = "takes the weights: give them with --weights FILE" if takes else "takes no weights: leave out --weights"
        raise InputError(f"{FUNCTION}() in {path} {told}.")
    arguments = [] if weights is None else [read_weights(weights, trust_pickle=trust_pickle)]
    try:
        made = function(*arguments)
    except ValidationError as error:
        raise InputError(f"the Spec in {path} is wrong: {describe_validation_error(error)} {_EXPLAIN}") from None
    except ANY_ERROR as error:
        raise InputError(
            f"{FUNCTION}() in {path} raised {type(error).__name__}{place_of(error)}: {first_line(error, limit=600)} "
            "Mend the adapter."
        ) from None
    kinds = tuple(type(part) for part in made) if isinstance(made, tuple) else ()
    if len(kinds) != 2 or not issubclass(kinds[0], nn.Module) or not issubclass(kinds[1], Spec):
        raise InputError(
            f"{FUNCTION}() in {path} must return a torch.nn.Module and a Spec; got {type(made).__name__}. {_EXPLAIN}"
        )
    provenance = {"adapter": path.name, "adapter_sha256": file_sha256(path)}
    if weights is not None:
        provenance |= {"weights": weights.name, "weights_sha256": file_sha256(weights)}
    return source_of(*made, family=f"{path.stem}.{type(made[0]).__name__}", provenance=provenance)


def source_of(network: nn.Module, spec: Spec, *, family: str, provenance: dict[str, Any]) -> Source:
    """What the export builds from, of a network and its spec, in eval mode."""
    encoder = spec.encoder
    if spec.layout == "NHWC":
        network = ChannelsFirstOutput(network)
        encoder = None if encoder is None else ChannelsFirstInput(encoder)
    return Source(
        generator=with_distribution(network, spec.distribution).eval(),
        encoder=None if encoder is None else encoder.eval(),
        latent_shape=spec.latent_shape,
        image=spec.image,
        image_range=spec.image_range,
        labels=spec.label_names,
        truncation=spec.truncation,
        family=family,
        provenance=provenance | spec.summary(),
    )


@contextlib.contextmanager
def _siblings_importable(path: Path) -> Iterator[None]:
    """Let the file import those beside it, as Python does for a script."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _function_of(path: Path) -> Callable[..., Any]:
    if not path.is_file():
        raise InputError(f"--adapter {path} is no file. {_EXPLAIN}")
    try:
        names = runpy.run_path(str(path), run_name="ganvas_adapter")
    except SyntaxError as error:
        raise InputError(f"--adapter {path} is not Python: {error.msg} (line {error.lineno}). {_EXPLAIN}") from None
    except ANY_ERROR as error:  # ValueError of null bytes among them
        raise InputError(
            f"--adapter {path} raised {type(error).__name__}{place_of(error)}: {first_line(error)} Mend the adapter."
        ) from None
    function = names.get(FUNCTION)
    if not callable(function):
        raise InputError(f"--adapter {path} must define a function {FUNCTION}(). {_EXPLAIN}")
    return function  # type: ignore[no-any-return]

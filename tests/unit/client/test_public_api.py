"""The public API is ganvas_client.__all__, and nothing else."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import typing
from importlib import resources

import pytest

import ganvas_client
from ganvas_client import AsyncSampler, GanvasError, Sampler, calls, errors, noise

METHODS = ("sample", "sample_stream", "decode", "encode", "walk", "models", "model")


def test_public_names_are_exactly_all() -> None:
    public = {
        name for name, value in vars(ganvas_client).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(ganvas_client.__all__)
    assert list(ganvas_client.__all__) == sorted(
        ganvas_client.__all__, key=lambda name: (not name.isupper(), name.islower(), name)
    )


def test_noise_has_exactly_its_all_and_every_function_a_docstring() -> None:
    ours = {name for name, value in vars(noise).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert ours == set(noise.__all__)
    assert ganvas_client.noise is noise
    assert ganvas_client.latents is noise.latents
    for function in (noise.bits, noise.latents, noise.truncated_latents):
        assert "[N, *latent_shape]" in (function.__doc__ or "")


def test_examples_of_noise_run() -> None:
    done = doctest.testmod(noise)
    assert (done.failed, done.attempted) == (0, 4)


def test_importing_the_client_imports_nothing_heavy() -> None:
    program = (
        "import sys, ganvas_client, ganvas_client.noise; "
        "heavy = {'torch', 'onnxruntime', 'tritonclient', 'PIL', 'pydantic', 'typer'}; print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_exception_is_public_and_in_the_tree() -> None:
    assert errors.__doc__ is not None
    kinds: list[type[GanvasError]] = [GanvasError, *GanvasError.__subclasses__()]
    for kind in kinds:
        assert kind.__name__ in ganvas_client.__all__
        assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [Sampler, AsyncSampler])
def test_method_has_the_signature_of_its_call_and_a_docstring(kind: type, method: str) -> None:
    call = getattr(calls, method)
    bound = getattr(kind("127.0.0.1:1"), method)
    assert inspect.signature(bound).parameters == inspect.signature(call).parameters
    assert bound.__doc__
    assert bound.__name__ == method


@pytest.mark.parametrize("kind", [Sampler, AsyncSampler])
def test_samplers_have_only_the_methods_of_the_service(kind: type) -> None:
    public = {name for name in dir(kind) if not name.startswith("_")}
    assert public == {*METHODS, "direct", "close"}


@pytest.mark.parametrize(
    ("method", "result"),
    [("sample", "Images"), ("walk", "AsyncGenerator[Image, None]"), ("models", "list[ModelInfo]")],
)
def test_signature_names_the_result_and_not_the_description(method: str, result: str) -> None:
    assert inspect.signature(getattr(AsyncSampler, method)).return_annotation == result


def test_every_call_has_a_deadline_by_default() -> None:
    for method in METHODS:
        assert inspect.signature(getattr(Sampler, method)).parameters["timeout_s"].default > 0


def test_package_is_typed() -> None:
    assert resources.files("ganvas_client").joinpath("py.typed").is_file()
    assert typing.get_type_hints(ganvas_client.Limits)["max_count"] is int

"""The checks of `./ganvas verify`: an exported version against its certificate, on bare ONNX Runtime's CPU provider.

    configurations    parse with Triton's protobuf, and agree with the ONNX files and the certificate
    golden seeds      give the certificate's images
    noise             sample(seed, truncation) has the bytes of decode(latents(seed) * truncation) with NumPy's latents
    batches           an image has the same bytes alone and in any slot of any batch
    encoder           gives finite mean and logvar of the certificate's shape, which decode takes
    golden posteriors are what the encoder gives of the golden images

Each function returns a line that says what it found, or raises CheckError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ganvas_core.certificate import Certificate
from ganvas_core.description import descriptions
from ganvas_core.interface import Arrays, decode_inputs, joined, sample_inputs
from ganvas_core.names import Role
from ganvas_core.noise import latents
from ganvas_core.session import CpuSession, SessionError
from ganvas_core.triton_keys import wrong_keys
from serving.repository.agreement import certified_tensors, config_tensors
from serving.repository.golden import GoldenMismatchError, check_posteriors_file, compare_golden, golden_inputs
from serving.repository.reader import ModelVersion, RepositoryError, read_config, served_file

__all__ = ["CheckError", "checks"]

NUM_SEEDS = 64
EDGE_SEEDS = (0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
BATCHES = (1, 2, 3, 7)

_ONNX_TYPES = {
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float)": "TYPE_FP32",
    "tensor(uint8)": "TYPE_UINT8",
}


class CheckError(Exception):
    """A check that failed."""


class _Graphs:
    """The ONNX files of one name in a version's Triton models, opened on first use."""

    def __init__(self, version: ModelVersion, file_name: str) -> None:
        self.version = dataclasses.replace(version, file_name=file_name, encode_file_name=file_name)
        self.file_name = file_name
        self._sessions: dict[str, CpuSession] = {}

    def open(self, part: Certificate) -> CpuSession:
        """One graph on the CPU provider.

        Raises:
            CheckError: ONNX Runtime cannot load it.
        """
        if part.name not in self._sessions:
            path = self.version.folder_of(part) / self.file_name
            try:
                self._sessions[part.name] = CpuSession(path, pinned_batch=part.pinned_batch)
            except SessionError as error:
                raise CheckError(str(error)) from None
        return self._sessions[part.name]

    def run(self, part: Certificate, feeds: Arrays, batch: int = 1) -> list[NDArray[Any]]:
        return self.open(part).run_in_batches(feeds, batch)


def checks(version: ModelVersion) -> Iterator[tuple[str, Callable[[], str]]]:
    """What to check, in order: a name and a function that does it."""
    files = {file_name: _Graphs(version, file_name) for file_name in version.certificate.files}
    yield "configurations", partial(_check_configs, version, files)
    for file_name, graphs in files.items():
        yield f"golden seeds, {file_name}", partial(_check_golden, graphs)
        yield f"noise, {file_name}", partial(_check_noise, graphs)
        yield f"batches, {file_name}", partial(_check_batches, graphs)
        if version.encode is not None:
            yield f"encoder, {file_name}", partial(_check_encoder, graphs, version.encode)
            if version.encode.files[file_name].golden:
                yield f"golden posteriors, {file_name}", partial(_check_golden_posteriors, graphs, version.encode)


def _check_configs(version: ModelVersion, files: Mapping[str, _Graphs]) -> str:
    num_configs = 0
    for part in version.parts():
        folder = version.folder.parent.parent / part.name
        names = [None, *sorted(path.stem for path in (folder / "configs").glob("*.pbtxt"))]
        for name in names:
            where = f"{part.name}/{f'configs/{name}' if name else 'config'}.pbtxt"
            try:
                config = read_config(folder, name)
                graphs = files[served_file(part, config)]
            except RepositoryError as error:
                raise CheckError(str(error)) from None
            _check_config(config, part, graphs.open(part).session, where)
            _check_description(config, version, part.role, graphs.file_name, where)
        num_configs += len(names)
    return f"{num_configs} files parse and agree with the graphs and the certificate"


def _check_config(config: ModelConfig, certificate: Certificate, session: Any, where: str) -> None:
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    if wrong := wrong_keys(config.parameters, [(entry.name, entry.parameters) for entry in accelerators]):
        raise CheckError(f"{where}: {'; '.join(wrong)}.")
    for field, value, expected in (
        ("name", config.name, certificate.name),
        ("backend", config.backend, "onnxruntime"),
        ("max_batch_size", config.max_batch_size, certificate.max_batch_size),
        ("version_policy", config.version_policy.WhichOneof("policy_choice"), "all"),
        ("input", config_tensors(config.input), _onnx_tensors(session.get_inputs())),
        ("output", config_tensors(config.output), _onnx_tensors(session.get_outputs())),
    ):
        if value != expected:
            raise CheckError(f"{where} has {field} {value!r}; it must be {expected!r}.")
    # The certificate says which contract the graph must have.
    found = _onnx_tensors([*session.get_inputs(), *session.get_outputs()])
    inputs, outputs = certified_tensors(certificate)
    wanted = inputs | outputs
    if found != wanted:
        raise CheckError(f"the graph of {where} has {_listed(found)}; its certificate means {_listed(wanted)}.")


def _check_description(config: ModelConfig, version: ModelVersion, role: Role, file_name: str, where: str) -> None:
    """What it says to clients of this version, if anything: versions of earlier releases have no description."""
    (key, expected), *_ = descriptions({version.version: version.certificate}, role, file_name).items()
    if key in config.parameters and config.parameters[key].string_value != expected:
        raise CheckError(f"{where} has parameter {key}, which does not agree with the certificate. Export again.")


def _check_golden(graphs: _Graphs) -> str:
    """Sampler and decode re-make the golden images, one by one."""
    version = graphs.version
    results = {_remake(graphs, part) for part in (version.certificate, version.decode)}
    return f"{len(version.served.golden)} images: {'exact' if results == {'exact'} else 'equivalent'}"


def _check_golden_posteriors(graphs: _Graphs, encode: Certificate) -> str:
    """The encoder re-makes them, one by one, and golden.npy has those of the fp32 file."""
    result = _remake(graphs, encode)
    try:
        check_posteriors_file(graphs.version)
    except GoldenMismatchError as error:
        raise CheckError(str(error)) from None
    return f"{len(graphs.version.golden('encode'))} posteriors: {result}"


def _remake(graphs: _Graphs, part: Certificate) -> str:
    try:
        made = joined(graphs.run(part, golden_inputs(graphs.version, part.role)))
        return compare_golden(graphs.version, made, part.role)
    except GoldenMismatchError as error:
        raise CheckError(str(error)) from None


def _check_noise(graphs: _Graphs) -> str:
    feeds = _random_feeds(graphs.version)
    if graphs.version.certificate.truncation == "network":
        feeds["truncation"][:] = 1.0  # decode has none
        feeds["latent"] = latents(feeds["seed"][:, 0], graphs.version.certificate.latent_shape)
    sampled = graphs.run(graphs.version.certificate, feeds)[0]
    decoded = graphs.run(graphs.version.decode, feeds)[0]
    _check_same(sampled, decoded, feeds, "decode(latents(seed) * truncation) with NumPy's latents gives other bytes")
    return f"{len(sampled)} seeds: sample and decode give the same bytes"


def _check_batches(graphs: _Graphs) -> str:
    version = graphs.version
    feeds = _random_feeds(version)
    feeds["image"] = graphs.run(version.certificate, feeds)[0]
    sizes = sorted({*BATCHES, version.certificate.max_batch_size})
    for part in version.parts():
        alone = graphs.run(part, feeds)
        for size in sizes[1:]:
            for expected, found in zip(alone, graphs.run(part, feeds, size), strict=True):
                _check_same(expected, found, feeds, f"{part.name} in a batch of {size} gives other bytes")
    return f"the same bytes in batches of {', '.join(map(str, sizes))}"


def _check_encoder(graphs: _Graphs, encode: Certificate) -> str:
    feeds = _random_feeds(graphs.version)
    images = graphs.run(graphs.version.certificate, feeds)[0]
    posterior = graphs.run(encode, {"image": images})
    expected = (len(images), *encode.latent_shape)
    for name, values in zip(("mean", "logvar"), posterior, strict=True):
        if values.shape != expected or not np.isfinite(values).all():
            raise CheckError(f"{name} must be finite {list(expected)}; got {list(values.shape)}, {values.dtype}.")
    again = graphs.run(graphs.version.decode, feeds | {"latent": posterior[0]})[0]
    if again.shape != images.shape:
        raise CheckError(f"decode(mean) must be {list(images.shape)}; got {list(again.shape)}.")
    return f"mean and logvar of {len(images)} images are finite, {list(encode.latent_shape)} each"


def _random_feeds(version: ModelVersion) -> Arrays:
    """New seeds every time, with the edges of 64 bits, under random truncation and labels."""
    rng = np.random.default_rng()
    seeds = rng.integers(0, 2**64, NUM_SEEDS, np.uint64)
    seeds[: len(EDGE_SEEDS)] = EDGE_SEEDS
    certificate = version.certificate
    truncation = rng.uniform(0, certificate.truncation_max, NUM_SEEDS).astype(np.float32)
    labels = rng.integers(0, len(certificate.labels), NUM_SEEDS, np.int64) if certificate.labels else None
    latent = certificate.latents(seeds, truncation, labels)
    return sample_inputs(seeds, truncation, labels) | decode_inputs(latent, labels)


def _check_same(expected: NDArray[Any], found: NDArray[Any], feeds: Arrays, problem: str) -> None:
    for i, (one, other) in enumerate(zip(expected, found, strict=True)):
        if not np.array_equal(one, other):
            difference = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
            raise CheckError(
                f"{problem}, by up to {difference:g}, at seed {feeds['seed'][i, 0]} and truncation "
                f"{feeds['truncation'][i, 0]}."
            )


def _onnx_tensors(tensors: Any) -> set[tuple[Any, ...]]:
    """Without the batch dimension, which must be symbolic."""
    for entry in tensors:
        if not entry.shape or not isinstance(entry.shape[0], str):
            raise CheckError(f"{entry.name} must have a symbolic batch dimension; got shape {entry.shape}.")
    return {(entry.name, _ONNX_TYPES.get(entry.type, entry.type), tuple(entry.shape[1:])) for entry in tensors}


def _listed(tensors: set[tuple[Any, ...]]) -> str:
    return ", ".join(f"{name} {kind} {list(dims)}" for name, kind, dims in sorted(tensors))

"""The checks of `./ganvas verify --url`: a running server against the certificate that it gives out.

Only the typed service is asked, so nothing of the model need be here. Each function returns a line that says what it
found, or raises CheckError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np

from ganvas.v1 import sampler_pb2
from ganvas.v1.sampler_pb2_grpc import SamplerStub
from ganvas_core.certificate import Certificate, CertificateError, Golden, ModelFile
from ganvas_core.cli import UsageError
from ganvas_core.connection import connection_problem
from ganvas_core.names import FP32_FILE, MAX_MESSAGE_BYTES
from serving.repository.checks import CheckError

__all__ = ["RemoteModel", "remote_checks"]

NUM_SEEDS = 32
EDGE_SEEDS = (0, 1, 2**63, 2**64 - 1)
TIMEOUT_S = 120.0


class RemoteModel:
    """One version of a model that a server serves.

    Args:
        url: HOST:PORT.
        metadata: sent with every call: the API key, if there is one.
    Raises:
        UsageError: the server has no such model or version.
        CheckError: the server does not answer, or its certificate cannot be read.
    """

    def __init__(
        self,
        url: str,
        name: str,
        version: int | None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        channel = (
            grpc.insecure_channel(url, options)
            if credentials is None
            else grpc.secure_channel(url, credentials, options)
        )
        self._stub: Any = SamplerStub(channel)  # type: ignore[no-untyped-call]
        self._metadata, self.url, self._tls = tuple(metadata), url, credentials is not None
        self._name, self._version = name, "" if version is None else str(version)
        reply = self._call("GetModel", sampler_pb2.GetModelRequest(model=name, version=self._version))
        self.model = reply.model
        self._version = reply.model.version
        try:
            self.certificate = Certificate.from_json(reply.certificate_json)
            encode_json = reply.encode_certificate_json
            self.encode_certificate = Certificate.from_json(encode_json) if encode_json else None
            """None: there is no encoder, or the server is of an earlier release."""
        except CertificateError as error:
            raise CheckError(str(error)) from None

    @property
    def file(self) -> ModelFile:
        """The certificate's entry of the file that is served.

        Raises:
            CheckError: it has none of the digest that the server says.
        """
        for entry in self.certificate.files.values():
            if entry.sha256 == self.model.digest:
                return entry
        raise CheckError(f"the server says digest {self.model.digest[:16]}…, which its certificate does not list")

    def sample(self, seeds: Sequence[int], truncation: float, labels: Sequence[int]) -> list[bytes]:
        """The images' raw bytes."""
        request = sampler_pb2.SampleRequest(
            model=self._name, version=self._version, seeds=seeds, truncation=truncation, labels=labels
        )
        return self._images(self._call("Sample", request))

    def decode(self, seeds: Sequence[int], truncation: float, labels: Sequence[int]) -> list[bytes]:
        latents = self.certificate.latents(seeds, truncation, labels or None)
        request = sampler_pb2.DecodeRequest(
            model=self._name,
            version=self._version,
            latents=latents.reshape(-1).tolist(),
            shape=latents.shape,
            labels=labels,
        )
        return self._images(self._call("Decode", request))

    def encode(self, images: Sequence[bytes]) -> Any:
        request = sampler_pb2.EncodeRequest(model=self._name, version=self._version, images=images)
        return self._call("Encode", request)

    def _images(self, reply: Any) -> list[bytes]:
        if reply.info.digest != self.model.digest:
            raise CheckError(f"images came from digest {reply.info.digest[:16]}…, not {self.model.digest[:16]}…")
        return [image.data for image in sorted(reply.images, key=lambda image: int(image.index))]

    def _call(self, rpc: str, request: Any) -> Any:
        try:
            return getattr(self._stub, rpc)(request, timeout=TIMEOUT_S, metadata=self._metadata, wait_for_ready=False)
        except grpc.RpcError as error:
            detail = (error.details() if isinstance(error, grpc.Call) else "") or str(error)
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise UsageError(detail) from None
            problem = connection_problem(detail, self.url, tls=self._tls)
            raise CheckError(problem or f"{rpc} at {self.url}: {detail}") from None


def remote_checks(remote: RemoteModel) -> Iterator[tuple[str, Callable[[], str]]]:
    """What to check, in order: a name and a function that does it."""
    yield "certificate", partial(_check_certificate, remote)
    yield "golden seeds", partial(_check_golden, remote)
    yield "noise", partial(_check_noise, remote)
    yield "batches", partial(_check_batches, remote)
    if remote.model.can_encode:
        yield "encoder", partial(_check_encoder, remote)
    encode = remote.encode_certificate
    if encode is not None and encode.files[FP32_FILE].golden:
        yield "golden posteriors", partial(_check_golden_posteriors, remote, encode)


def _check_certificate(remote: RemoteModel) -> str:
    certificate, model = remote.certificate, remote.model
    for field, served, certified in (
        ("name", model.name, certificate.name),
        ("version", model.version, str(certificate.version)),
        ("image", (model.height, model.width, model.channels), _shape(certificate)),
        ("latent_shape", tuple(model.latent_shape), certificate.latent_shape),
        ("labels", tuple(model.labels), certificate.labels),
        ("precision", model.precision, remote.file.precision),
    ):
        if served != certified:
            raise CheckError(f"the server says {field} {served!r}, and its certificate {certified!r}")
    return f"format and fields agree; {remote.file.precision}, {model.digest[:16]}…"


def _check_golden(remote: RemoteModel) -> str:
    """Every golden image has the certificate's bytes, or the server itself says that its processor's are equivalent."""
    golden = remote.file.golden
    different = []
    for entry in golden:
        labels = [] if entry.label is None else [entry.label]
        (image,) = remote.sample([entry.seed], entry.truncation, labels)
        if hashlib.sha256(image).hexdigest() != entry.sha256:
            different.append(entry.seed)
    if not different:
        return f"{len(golden)} images: exact"
    if remote.model.golden == "exact":
        raise CheckError(
            f"the server says that golden images are exact, and {len(different)} of {len(golden)} are not, first of "
            f"seed {different[0]}"
        )
    return (
        f"{len(golden) - len(different)} of {len(golden)} images exact; the server found the others equivalent, within "
        f"{remote.certificate.golden_atol_levels} levels"
    )


def _check_noise(remote: RemoteModel) -> str:
    seeds, labels = _seeds(remote.certificate)
    truncation = 1.0 if remote.certificate.truncation == "network" else 0.7
    if remote.sample(seeds, truncation, labels) != remote.decode(seeds, truncation, labels):
        raise CheckError("decode(latents(seed) * truncation) with NumPy's latents gives other bytes than sample")
    return f"{len(seeds)} seeds: sample and decode give the same bytes"


def _check_batches(remote: RemoteModel) -> str:
    seeds, labels = _seeds(remote.certificate)
    together = remote.sample(seeds, 1.0, labels)
    backwards = remote.sample(seeds[::-1], 1.0, labels[::-1])[::-1]
    for i, seed in enumerate(seeds):
        alone = remote.sample([seed], 1.0, labels[i : i + 1])[0]
        if not alone == together[i] == backwards[i]:
            raise CheckError(f"seed {seed} gives other bytes alone than among {len(seeds)}")
    return f"{len(seeds)} seeds: the same bytes alone, together and in the opposite order"


def _check_encoder(remote: RemoteModel) -> str:
    seeds, labels = _seeds(remote.certificate)
    reply = remote.encode(remote.sample(seeds, 1.0, labels))
    size = len(seeds) * int(np.prod(remote.certificate.latent_shape))
    for name in ("mean", "logvar"):
        values = np.array(getattr(reply, name))
        if len(values) != size or not np.isfinite(values).all():
            raise CheckError(f"{name} must be {size} finite numbers; got {len(values)}")
    return f"mean and logvar of {len(seeds)} images are finite"


def _check_golden_posteriors(remote: RemoteModel, encode: Certificate) -> str:
    """Every golden image that the server makes with the bytes of golden.png has the certificate's posterior.

    golden.png itself is not here: it is of the fp32 file. The images of an fp16 file, or of another kind of processor,
    are others, and so are their posteriors.
    """
    images = {(entry.seed, entry.truncation, entry.label): entry.sha256 for entry in _fp32_golden(remote.certificate)}
    golden = _fp32_golden(encode)
    num_asked, different = 0, []
    for i, entry in enumerate(golden):
        labels = [] if entry.label is None else [entry.label]
        (image,) = remote.sample([entry.seed], entry.truncation, labels)
        if hashlib.sha256(image).hexdigest() != images.get((entry.seed, entry.truncation, entry.label)):
            continue
        reply = remote.encode([image])
        posterior = np.array([*reply.mean, *reply.logvar], "<f4").tobytes()
        num_asked += 1
        # The server does not say which file its encoder runs.
        if hashlib.sha256(posterior).hexdigest() not in {file.golden[i].sha256 for file in encode.files.values()}:
            different.append(entry.seed)
    if different and remote.model.golden == "exact":
        raise CheckError(
            f"the server says that golden answers are exact, and {len(different)} of {num_asked} posteriors are not, "
            f"first of seed {different[0]}"
        )
    if not num_asked:
        return "not asked: this server's golden images are not those of the fp32 file; it has compared them itself"
    exact = f"{num_asked - len(different)} of {len(golden)} posteriors: exact"
    return exact if num_asked == len(golden) and not different else f"{exact}; the server has compared the others"


def _fp32_golden(certificate: Certificate) -> tuple[Golden, ...]:
    return certificate.files[FP32_FILE].golden


def _seeds(certificate: Certificate) -> tuple[list[int], list[int]]:
    """New seeds every time, with the edges of 64 bits, and a label for each."""
    rng = np.random.default_rng()
    drawn = rng.integers(0, 2**64, NUM_SEEDS - len(EDGE_SEEDS), np.uint64)
    labels = rng.integers(0, len(certificate.labels), NUM_SEEDS) if certificate.labels else np.empty(0, np.int64)
    return [*EDGE_SEEDS, *map(int, drawn)], labels.tolist()


def _shape(certificate: Certificate) -> tuple[int, int, int]:
    return certificate.height, certificate.width, certificate.channels

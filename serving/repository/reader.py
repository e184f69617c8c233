"""The model repository as serving sees it: every version with its certificates, and why the others are rejected.

    folder/NAME/config.pbtxt                     a Triton model; NAME-decode and NAME-encode beside it
    folder/NAME/configs/CONFIG_NAME.pbtxt        picked by --model-config-name
    folder/NAME/VERSION/certificate.json         a version without one is rejected

Nothing here needs Triton, ONNX Runtime or torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ganvas_core.certificate import Certificate, CertificateError, Golden, ModelFile
from ganvas_core.cli import UsageError
from ganvas_core.names import CERTIFICATE_FILE, CONFIG_FILE, FP32_FILE, Role, is_model_name, triton_name

__all__ = [
    "ModelVersion",
    "Rejected",
    "Repository",
    "RepositoryError",
    "check_config_name",
    "list_versions",
    "read_config",
    "read_repository",
    "read_version",
    "served_file",
]

_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_CONFIG_NAME = re.compile(r"[A-Za-z0-9_-]+")


class RepositoryError(UsageError):
    """A model repository that is missing or empty, or a model that it does not have."""


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One version of one model, whose files match their certificates."""

    name: str
    version: int
    folder: Path
    """NAME/VERSION of the sampler."""
    file_name: str
    """The ONNX file that Triton serves under the configuration in use."""
    digest: str
    """SHA-256 of that file: with seed, truncation and label it determines an image."""
    precision: Literal["fp32", "fp16"]
    certificate: Certificate
    decode: Certificate
    encode: Certificate | None
    """None: the model has no encoder."""
    encode_file_name: str | None = None
    """As file_name, of encode. None: it is the same."""

    def golden(self, role: Role) -> tuple[Golden, ...]:
        """The golden answers that a role can make: decode has no truncation, so a network's own must be 1.

        Empty: of an encoder whose certificate is from an earlier release.
        """
        only_one = role == "decode" and self.certificate.truncation == "network"
        return tuple(entry for entry in self.served_of(role).golden if not only_one or entry.truncation == 1.0)

    @property
    def served(self) -> ModelFile:
        """The certificate's entry of the file that is served."""
        return self.certificate.files[self.file_name]

    def served_of(self, role: Role) -> ModelFile:
        """The entry with the golden answers of a role: encode's, or the sampler's, whose images decode makes too."""
        if role == "encode":
            return self.part(role).files[self.encode_file_name or self.file_name]
        return self.served

    def part(self, role: Role) -> Certificate:
        """The certificate of a role that this version has."""
        return next(part for part in self.parts() if part.role == role)

    def folder_of(self, part: Certificate) -> Path:
        """Where the files of a part are."""
        return self.folder.parent.parent / part.name / str(self.version)

    def parts(self) -> tuple[Certificate, ...]:
        """The certificates of this version: of sample and decode, and of encode if there is an encoder."""
        return (self.certificate, self.decode) + ((self.encode,) if self.encode else ())


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A version that is not served, and why."""

    name: str
    version: int
    reason: str
    transient: bool = False
    """Not for what it holds: it may pass later as it is."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Everything that `read_repository` found, by name and version, oldest first."""

    folder: Path
    versions: tuple[ModelVersion, ...]
    rejected: tuple[Rejected, ...]

    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(version.name for version in self.versions))

    def newest(self, name: str) -> ModelVersion:
        return self.find(name)

    def find(self, name: str, version: int | None = None) -> ModelVersion:
        """A version of the model, the newest by default.

        Raises:
            RepositoryError: no such model or version; says what there is, or why it was rejected.
        """
        of_name = [entry for entry in self.versions if entry.name == name]
        for entry in reversed(of_name):
            if version in (None, entry.version):
                return entry
        rejected = [entry for entry in self.rejected if entry.name == name and version in (None, entry.version)]
        if rejected:
            raise RepositoryError(f"model {name!r} version {rejected[-1].version} is rejected: {rejected[-1].reason}")
        if of_name:
            there_is = ", ".join(str(entry.version) for entry in of_name)
            raise RepositoryError(f"model {name!r} has no version {version}; there is {there_is}.")
        names = ", ".join(self.names()) or "none that can be served"
        raise RepositoryError(f"{self.folder} has no model {name!r:.80}; there is: {names}.")

    def triton_models(self) -> list[str]:
        """The Triton models to load: each name and its companions."""
        return sorted({part.name for version in self.versions for part in version.parts()})


def read_repository(folder: Path, config_name: str | None = None) -> Repository:
    """Read every version in the folder and check every file of it against its certificate.

    Args:
        config_name: as Triton's --model-config-name; a model without configs/CONFIG_NAME.pbtxt uses config.pbtxt.
    Raises:
        RepositoryError: the folder is missing or has no version at all, or no model has the configuration. A bad
            version lands in `rejected`.
    """
    versions: list[ModelVersion] = []
    rejected: list[Rejected] = []
    check_config_name(folder, config_name)
    for name, version in list_versions(folder):
        try:
            versions.append(read_version(folder, name, version, config_name))
        except (CertificateError, RepositoryError, OSError) as error:
            rejected.append(Rejected(name=name, version=version, reason=str(error)))
    return Repository(folder=folder, versions=tuple(versions), rejected=tuple(rejected))


def check_config_name(folder: Path, config_name: str | None) -> None:
    """Check that some model has the configuration: Triton would serve every config.pbtxt instead, without a word.

    Raises:
        RepositoryError: it says what there is; or the folder is missing or has no version at all.
    """
    if config_name is not None and not _CONFIG_NAME.fullmatch(config_name):
        raise RepositoryError(f"--config-name must be letters, digits, '_' or '-'; got {config_name!r:.80}.")
    names = {name for name, _ in list_versions(folder)}
    if not names:
        raise RepositoryError(f"{folder} has no exported model. Make one: ./ganvas export CHECKPOINT.")
    there_is = {path.stem for name in names for path in (folder / name / "configs").glob("*.pbtxt")}
    if config_name is not None and config_name not in there_is:
        listed = ", ".join(sorted(there_is)) or "none"
        raise RepositoryError(f"--config-name: no model has configs/{config_name}.pbtxt; there is: {listed}.")


def read_config(model_folder: Path, config_name: str | None = None) -> ModelConfig:
    """The Triton configuration that is in use for a model, parsed with Triton's own protobuf.

    Raises:
        RepositoryError: missing, unreadable or not a model configuration.
    """
    path = model_folder / CONFIG_FILE
    if config_name is not None and (named := model_folder / "configs" / f"{config_name}.pbtxt").is_file():
        path = named
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"cannot read {path}: {error}. Export the model again.") from None


def served_file(certificate: Certificate, config: ModelConfig) -> str:
    """The name of the ONNX file that the configuration serves.

    Raises:
        RepositoryError: the certificate does not list it.
    """
    file_name: str = config.default_model_filename or FP32_FILE
    if file_name not in certificate.files:
        listed = ", ".join(certificate.files)
        raise RepositoryError(
            f"the configuration of {certificate.name} has default_model_filename {file_name!r:.80}, "
            f"which its certificate does not list ({listed})."
        )
    return file_name


def list_versions(folder: Path) -> Iterator[tuple[str, int]]:
    """(name, version) of every version of a model of ours, in order, sound or not. Other folders are passed over.

    Raises:
        RepositoryError: the folder cannot be read.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise RepositoryError(f"cannot read the model repository {folder}: {error.strerror}.") from None
    for name in names:
        if is_model_name(name):
            found = {entry.name for entry in (folder / name).iterdir() if entry.is_dir()}
            for version in sorted(int(text) for text in found if _VERSION.fullmatch(text)):
                yield name, version


def read_version(folder: Path, name: str, version: int, config_name: str | None = None) -> ModelVersion:
    """One version, every file of it checked against its certificate.

    Raises:
        CertificateError, RepositoryError, OSError: why it must not be served.
    """
    certificate = _read_part(folder, name, version, "sample")
    decode = _read_part(folder, name, version, "decode")
    encode = _read_part(folder, name, version, "encode") if "encode" in certificate.roles else None
    served_files: dict[Role, str] = {}
    for part in (decode, encode):
        if part is not None:
            _check_agreement(certificate, part)
            served_files[part.role] = served_file(part, read_config(folder / part.name, config_name))
    file_name = served_file(certificate, read_config(folder / name, config_name))
    served = certificate.files[file_name]
    if not served.golden:
        raise CertificateError(f"the certificate of {name} version {version} has no golden seeds for {file_name}.")
    return ModelVersion(
        name=name,
        version=version,
        folder=folder / name / str(version),
        file_name=file_name,
        digest=served.sha256,
        precision=served.precision,
        certificate=certificate,
        decode=decode,
        encode=encode,
        encode_file_name=served_files.get("encode"),
    )


def _read_part(folder: Path, name: str, version: int, role: Role) -> Certificate:
    version_folder = folder / triton_name(name, role) / str(version)
    if not version_folder.is_dir():
        raise CertificateError(f"{version_folder} is missing. Export the model again.")
    if not (version_folder / CERTIFICATE_FILE).is_file():
        raise CertificateError(
            f"{version_folder} has no {CERTIFICATE_FILE}: it was not exported by Ganvas, or its copy is not complete. "
            "Export it with ./ganvas export, or copy it whole with ./ganvas models publish."
        )
    certificate = Certificate.read(version_folder)
    found = (certificate.name, certificate.version, certificate.role)
    if found != (triton_name(name, role), version, role):
        raise CertificateError(
            f"{version_folder} holds the certificate of {found[0]!r:.80} version {found[1]} ({found[2]}). "
            "Export the model again."
        )
    certificate.check_files(version_folder)
    return certificate


def _check_agreement(certificate: Certificate, part: Certificate) -> None:
    for field in ("height", "width", "channels", "latent_shape", "roles", "labels", "truncation", "prior"):
        expected, actual = getattr(certificate, field), getattr(part, field)
        if actual != expected:
            raise CertificateError(
                f"{part.name} version {part.version} has {field} {actual!s:.80}, but {certificate.name} has "
                f"{expected!s:.80}. Export the model again."
            )

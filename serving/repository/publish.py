"""Copy a version from one model repository into another: whole or not at all, as an export does.

copy  →  fsync  →  check the copies  →  NAME-decode/V, NAME-encode/V  →  NAME/V        each step one rename
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ganvas_core.certificate import Certificate, CertificateError, read_samplers
from ganvas_core.description import KEY_PREFIX, descriptions
from ganvas_core.files import copy_synced, sync_folder, write_synced
from ganvas_core.names import CERTIFICATE_FILE, CONFIG_FILE, Role
from serving.repository.agreement import check_agreement
from serving.repository.reader import ModelVersion, RepositoryError, read_config, read_version

__all__ = ["locked", "publish"]

LOCK_TIMEOUT_S = 60.0


def publish(source: Path, repository: Path, name: str, version: int) -> ModelVersion:
    """Copy one version, checked before and after.

    Returns:
        The version in `repository`. If it was there before with the same files, nothing is done.
    Raises:
        RepositoryError: it does not match its certificate, or the repository has another version of that number, or
            versions that its configuration is not for.
        OSError: the disk is full, or the repository cannot be written.
    """
    entry = _checked(source, name, version)
    with locked(repository):
        if (repository / name / str(version)).exists():
            there_is = _checked(repository, name, version)
            if there_is.certificate == entry.certificate:
                return there_is
            raise RepositoryError(f"{repository} has another {name} version {version}. Export under another version.")
        with _staging(repository) as staged:
            for part in entry.parts():
                _copy(source / part.name, staged / part.name, entry, listed=[*part.files, *part.attachments])
            _checked(staged, name, version)
            for part in entry.parts():
                _check_configs(staged / part.name, repository / part.name, version)
            samplers = read_samplers(repository / name) | {version: entry.certificate}
            for part in entry.parts():
                _describe(staged / part.name, part.role, samplers)
            for part in reversed(entry.parts()):  # the sampler, which makes the version exist, comes last
                _move_in(staged / part.name, repository / part.name, version)
    return _checked(repository, name, version)


@contextlib.contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Hold the repository, made if it is missing, against exports and other changes.

    Raises:
        RepositoryError: something else holds it for a minute.
        OSError: it cannot be made.
    """
    repository.mkdir(parents=True, exist_ok=True)
    handle = os.open(repository, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RepositoryError(f"{repository} is being written to. Try again when that is done.") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _checked(repository: Path, name: str, version: int) -> ModelVersion:
    try:
        return read_version(repository, name, version)
    except CertificateError as error:
        raise RepositoryError(str(error)) from None


@contextlib.contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """A folder on the same file system, under a name that the next export clears if we are killed."""
    repository = repository.resolve()
    prefix = f".ganvas-export-{repository.name}-"
    beside = repository.parent.stat().st_dev == repository.stat().st_dev and os.access(repository.parent, os.W_OK)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=repository.parent if beside else repository))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path, entry: ModelVersion, *, listed: list[str]) -> None:
    """Copy what a certificate lists and the configurations, and wait until all is on disk."""
    configs = [CONFIG_FILE, *(f"configs/{path.name}" for path in (source / "configs").glob("*.pbtxt"))]
    for relative in (*configs, *(f"{entry.version}/{file}" for file in (*listed, CERTIFICATE_FILE))):
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        copy_synced(source / relative, target / relative)
    for folder, _, _ in os.walk(target, topdown=False):
        sync_folder(Path(folder))


def _check_configs(staged: Path, target: Path, version: int) -> None:
    """Check that what takes the place of a Triton model's configurations is for its earlier versions too."""
    earlier = {number: found for number, found in read_samplers(target).items() if number != version}
    for path in sorted(staged.rglob("*.pbtxt")):
        relative = path.relative_to(staged)
        name = None if relative.name == CONFIG_FILE else relative.stem
        old = None
        if (target / relative).is_file():
            with contextlib.suppress(RepositoryError):  # damaged: it is replaced
                old = read_config(target, name)
        check_agreement(
            read_config(staged, name), old, earlier, version, f"{staged.name}/{relative}", is_served=name is None
        )


def _describe(folder: Path, role: Role, samplers: Mapping[int, Certificate]) -> None:
    """Let the configurations describe the versions of the repository that they go to."""
    for path in folder.rglob("*.pbtxt"):
        config = text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
        for key in [key for key in config.parameters if key.startswith(KEY_PREFIX)]:
            del config.parameters[key]
        for key, text in descriptions(samplers, role, config.default_model_filename).items():
            config.parameters[key].string_value = text
        write_synced(path, text_format.MessageToString(config).encode())


def _move_in(staged: Path, target: Path, version: int) -> None:
    if not target.exists():
        staged.rename(target)
    else:
        if (orphan := target / str(version)).exists():  # a publication that was killed before its sampler came
            orphan.rename(staged / "orphan")
        for config in sorted(staged.rglob("*.pbtxt")):
            place = target / config.relative_to(staged)
            place.parent.mkdir(exist_ok=True)
            config.replace(place)
        (staged / str(version)).rename(target / str(version))
        sync_folder(target)
    sync_folder(target.parent)

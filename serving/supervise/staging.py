"""What Triton is given to load: copies of the versions that passed, hashed as copies, out of reach of the repository.

    folder/models/NAME/V        what Triton has, or is about to get: its model repository
    folder/aside/NAME/V         versions that are taken out for the moment: Triton must not load them when it starts
    folder/incoming/            a copy under way
    folder/replaced/            configurations that the newest version has replaced, for when it is refused

Whatever happens to the repository afterwards, Triton loads the bytes that were compared with the certificate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ganvas_core.certificate import Certificate, CertificateError
from ganvas_core.cli import UserError
from ganvas_core.description import KEY_PREFIX
from ganvas_core.names import CERTIFICATE_FILE, CONFIG_FILE, companions
from serving.repository.agreement import check_agreement
from serving.repository.reader import ModelVersion, Rejected, RepositoryError, read_config, read_version
from serving.supervise.instances import num_cores, with_instances
from serving.supervise.run_folder import has_no_space

__all__ = ["Staging", "StagingError"]


class StagingError(UserError):
    """There is no room for the copies."""


class Staging:
    """The copies of one run.

    Args:
        repository: what is copied from.
        folder: holds the three folders.
        config_name: as Triton's --model-config-name.
    """

    def __init__(self, repository: Path, folder: Path, config_name: str | None = None) -> None:
        self.models = folder / "models"
        self._repository = repository
        self._aside = folder / "aside"
        self._incoming = folder / "incoming"
        self._replaced = folder / "replaced"
        self._earlier: dict[Path, Path | None] = {}
        """Configurations that the version that was added last has replaced, and what was there; None: nothing."""
        self._config_name = config_name
        self._cores = num_cores()
        for path in (self.models, self._aside):
            path.mkdir(exist_ok=True)

    def add(self, name: str, version: int) -> ModelVersion | Rejected:
        """Copy a version, check the copy, and put it where Triton looks; it is loaded when Triton is told to.

        Raises:
            StagingError: the disk is full.
        """
        try:
            self._copy(name, version)
            entry = read_version(self._incoming, name, version, self._config_name)
            for part in entry.parts():
                self._check_agreement(part.name, version)
        except (CertificateError, RepositoryError, OSError) as error:
            if isinstance(error, OSError) and has_no_space(error):
                raise StagingError(
                    f"there is no space for a copy of model {name} version {version} in {self.models.parent}. Free "
                    "some, or set TMPDIR to a folder on a larger disk."
                ) from None
            reason = str(error).replace(str(self._incoming), str(self._repository))
            return Rejected(name=name, version=version, reason=reason, transient=isinstance(error, OSError))
        else:
            self._earlier.clear()
            try:
                for part in entry.parts():
                    self._move_in(part.name, version)
            except OSError:
                self.remove(entry, refused=True)
                raise
            return dataclasses.replace(entry, folder=self.models / name / str(version))
        finally:
            shutil.rmtree(self._incoming, ignore_errors=True)

    def remove(self, entry: ModelVersion, *, refused: bool = False) -> None:
        """Delete the copy, wherever it is.

        Args:
            refused: it was added last and is not served: the configurations are again those of before it.
        """
        for part in entry.parts():
            for place in (self.models, self._aside):
                shutil.rmtree(place / part.name / str(entry.version), ignore_errors=True)
            if not self._versions(part.name):
                for place in (self.models, self._aside):
                    shutil.rmtree(place / part.name, ignore_errors=True)
        if refused:
            self._put_configurations_back()

    def set_aside(self, model: str, version: int) -> None:
        """Move one version of a Triton model out of Triton's sight."""
        self._move(self.models, self._aside, model, version)

    def put_back(self, model: str, version: int) -> None:
        """Undo `set_aside`."""
        self._move(self._aside, self.models, model, version)

    def is_aside(self, model: str, version: int) -> bool:
        """Whether `set_aside` was not undone."""
        return (self._aside / model / str(version)).exists()

    def loadable(self) -> list[str]:
        """The Triton models that have a version to load."""
        return sorted(
            folder.name for folder in self.models.iterdir() if any(entry.name.isdecimal() for entry in folder.iterdir())
        )

    def _copy(self, name: str, version: int) -> None:
        """Copy what the certificates list, and nothing else."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        for model in (name, *companions(name)):
            source, target = self._repository / model / str(version), self._incoming / model / str(version)
            if not (source / CERTIFICATE_FILE).is_file():
                continue  # read_version says what is missing
            target.mkdir(parents=True)
            shutil.copyfile(source / CERTIFICATE_FILE, target / CERTIFICATE_FILE)
            certificate = Certificate.read(target)
            for listed in (*certificate.files, *certificate.attachments):
                if Path(listed).name != listed:
                    raise CertificateError(f"{source}/{CERTIFICATE_FILE} lists {listed!r:.80}, which is no file name.")
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(source / listed, target / listed)
            configs = [path for path in (source.parent / "configs").glob("*.pbtxt") if path.is_file()]
            for path in (source.parent / CONFIG_FILE, *configs):
                place = target.parent / path.relative_to(source.parent)
                place.parent.mkdir(exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    place.write_text(with_instances(_read_config_text(path), self._cores), encoding="utf-8")

    def _move_in(self, model: str, version: int) -> None:
        source, target = self._incoming / model, self.models / model
        if not target.exists():
            source.rename(target)
            return
        for path in source.rglob("*.pbtxt"):
            place = target / path.relative_to(source)
            # Triton loads every version anew when a configuration changes: not for what it says to clients alone.
            if not place.exists() or _for_triton(place) != _for_triton(path):
                place.parent.mkdir(exist_ok=True)
                self._earlier[place] = self._keep(place)
                path.replace(place)
        shutil.rmtree(target / str(version), ignore_errors=True)  # of a try that failed between two moves
        (source / str(version)).rename(target / str(version))

    def _keep(self, place: Path) -> Path | None:
        if not place.exists():
            return None
        kept = self._replaced / place.relative_to(self.models)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place, kept)
        return kept

    def _put_configurations_back(self) -> None:
        """By renaming, since a disk may be full; those of a Triton model that is gone are gone."""
        for place, kept in self._earlier.items():
            with contextlib.suppress(OSError):  # then the new one stays, which is for the others too
                if kept is None:
                    place.unlink(missing_ok=True)
                elif place.exists():
                    os.utime(kept)  # Triton looks for a later time
                    kept.replace(place)
        self._earlier.clear()

    def _check_agreement(self, model: str, version: int) -> None:
        """Check that the configuration that comes with a version is for those that are staged too.

        Raises:
            RepositoryError: it is not.
        """
        earlier = {
            number: Certificate.read(place / model / str(number))
            for place in (self.models, self._aside)
            for number in self._versions(model)
            if number != version and (place / model / str(number)).is_dir()
        }
        if earlier:
            new, old = (read_config(folder / model, self._config_name) for folder in (self._incoming, self.models))
            check_agreement(new, old, earlier, version, f"the configuration of {model}")

    def _move(self, source: Path, target: Path, model: str, version: int) -> None:
        if (source / model / str(version)).exists():
            (target / model).mkdir(exist_ok=True)
            (source / model / str(version)).rename(target / model / str(version))

    def _versions(self, model: str) -> list[int]:
        """Those of a Triton model that are staged, set aside or not."""
        found = [entry.name for place in (self.models, self._aside) for entry in (place / model).glob("*")]
        return sorted(int(name) for name in found if name.isdecimal())


def _read_config_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RepositoryError(f"cannot read {path}: {error}. Export the model again.") from None


def _for_triton(path: Path) -> str:
    """A configuration without what describes the versions to clients; one that does not parse as it is."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if KEY_PREFIX not in text:
        return text
    try:
        config = text_format.Parse(text, ModelConfig())
    except text_format.ParseError:
        return text
    for key in [key for key in config.parameters if key.startswith(KEY_PREFIX)]:
        del config.parameters[key]
    return str(config)

"""Model repositories of random weights, made by the real verbs: small and quick ones, and one that computes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganvas_core.cli import UsageError, UserError

__all__ = ["DCGAN64", "SERIES", "SERIES_FOLDER", "TINY", "Network", "export_version", "network_of"]

SERIES_FOLDER = Path(__file__).parent / "bench" / "networks"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A generator (and, of a VAE, an encoder) of random weights."""

    name: str
    toml: str
    num_labels: int
    latent_dim: int
    can_encode: bool = False
    file: Path | None = None
    """Where it was read from."""


def _network(name: str, family: str, *, latent_dim: int, num_labels: int, size: int, channels: int) -> Network:
    lines = [
        f'family = "{family}"',
        "[network]",
        f"latent_dim = {latent_dim}",
        f"num_classes = {num_labels}",
        f"embedding_dim = {8 if num_labels else 0}",
        f"image_size = {size}",
        f"image_channels = {channels}",
        "base_channels = 8",
        *(['body = "dcgan"', "prior_components = 0"] if family == "vae" else []),
    ]
    toml = "\n".join(lines) + "\n"
    return Network(name=name, toml=toml, num_labels=num_labels, latent_dim=latent_dim, can_encode=family == "vae")


TINY = (
    _network("tiny-gan", "dcgan", latent_dim=16, num_labels=10, size=32, channels=1),
    _network("tiny-vae", "vae", latent_dim=8, num_labels=10, size=32, channels=1),
    _network("plain-gan", "dcgan", latent_dim=12, num_labels=0, size=16, channels=3),
)
"""About 20 µs an image: what they cost is the server's own."""


def network_of(path: Path) -> Network:
    """The network of a TOML file: a family and its [network] table.

    Raises:
        UsageError: it cannot be read, or misses what every network has.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)["network"]
        num_labels, latent_dim = int(table["num_classes"]), int(table.get("latent_dim", 0))
    except OSError as error:
        raise _no_network(path, f"{error.strerror}.") from None
    except KeyError as error:
        missing = "[network]" if error.args == ("network",) else "network.num_classes"
        raise _no_network(path, f"{missing} is missing.") from None
    except UnicodeDecodeError:
        raise _no_network(path, "this is not text.") from None
    except (ValueError, TypeError) as error:
        raise _no_network(path, f"{error}.") from None
    return Network(name=path.stem, toml=text, num_labels=num_labels, latent_dim=latent_dim, file=path)


def _no_network(path: Path, why: str) -> UsageError:
    return UsageError(
        f"--network {path}: {why} It takes a TOML file with a family and its [network] table, such as those in "
        f"{SERIES_FOLDER}."
    )


DCGAN64 = network_of(SERIES_FOLDER / "dcgan64.toml")
"""64x64x3, 0.21 GFLOP an image: what it costs is the computing."""

SERIES = ("mlp", "dcgan32", "dcgan64", "residual128", "residual256", "vae256")
"""Files in SERIES_FOLDER, by what an image costs."""


def export_version(
    network: Network,
    repository: Path,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    arguments: Sequence[str] = (),
) -> None:
    """Add a version with the weights of `seed` to the repository.

    Args:
        checkpoint: where to keep what was exported. None: nowhere.
        arguments: more of `export`.
    Raises:
        UserError: a verb failed; the end of what it said is in the message.
        UsageError: the network's file is to blame.
    """
    with tempfile.TemporaryDirectory(prefix="ganvas-network-") as scratch:
        toml, folder = Path(scratch) / "network.toml", checkpoint or Path(scratch) / "checkpoint"
        toml.write_text(network.toml)
        try:
            _run("training", "untrained", str(toml), "--out", str(folder), "--seed", str(seed))
        except UserError as error:
            if network.file is None:
                raise
            raise _no_network(network.file, str(error).rpartition(f"{toml}: ")[2]) from None
        _run("export", "export", str(folder), "--name", network.name, "--repository", str(repository), *arguments)


def _run(module: str, verb: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, verb, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"{verb} failed: {done.stderr.strip()[-500:]}")

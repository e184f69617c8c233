"""`./ganvas verify --url` against our service: an undamaged model passes, and a server that changes is found out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from serving.cli.verify import verify
from serving.repository.checks import CheckError
from serving.repository.remote import RemoteModel, remote_checks
from tests.support import cli
from tests.support.service import Service


@pytest.mark.parametrize("name", ["tiny-gan", "tiny-vae", "plain-gan"])
def test_verify_passes_what_a_server_serves(shared_service: Service, name: str) -> None:
    result = cli.run(verify, [name, "--url", shared_service.address, "--json"])
    assert result.exit_code == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    names = [entry["check"] for entry in report["checks"]]
    assert names == ["certificate", "golden seeds", "noise", "batches"] + (
        ["encoder", "golden posteriors"] if name == "tiny-vae" else []
    )
    assert "exact" in report["checks"][1]["detail"]
    if name == "tiny-vae":
        assert report["checks"][-1]["detail"] == "8 of 8 posteriors: exact"


def test_verify_names_a_model_that_the_server_lacks(shared_service: Service) -> None:
    result = cli.run(verify, ["nothing", "--url", shared_service.address])
    assert result.exit_code == 2
    assert result.stderr.startswith("verify: ")
    assert "nothing" in result.stderr
    assert "there is: plain-gan, tiny-gan, tiny-vae" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1:50051"])
def test_verify_refuses_what_is_no_address(url: str) -> None:
    result = cli.run(verify, ["tiny-gan", "--url", url])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"verify: --url must be HOST:PORT; got '{url}'.")


def test_verify_says_that_nobody_answers() -> None:
    result = cli.run(verify, ["tiny-gan", "--url", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "verify: certificate: no sampling service answers at 127.0.0.1:1 (connection refused)." in result.stderr


class Altered(RemoteModel):
    """A server whose every second image of a call has another pixel."""

    def sample(self, seeds: object, truncation: float, labels: object) -> list[bytes]:
        images = super().sample(seeds, truncation, labels)  # type: ignore[arg-type]
        return [bytes([image[0] ^ 1]) + image[1:] if i % 2 else image for i, image in enumerate(images)]


class OtherGolden(RemoteModel):
    """A server that makes other images of single seeds."""

    def sample(self, seeds: object, truncation: float, labels: object) -> list[bytes]:
        images = super().sample(seeds, truncation, labels)  # type: ignore[arg-type]
        return [bytes([image[0] ^ 1]) + image[1:] for image in images] if len(images) == 1 else images


class OtherPosteriors(RemoteModel):
    """A server whose encoder gives another last number."""

    def encode(self, images: Sequence[bytes]) -> Any:
        reply = super().encode(images)
        reply.logvar[-1] += 1e-6
        return reply


class OtherImages(OtherPosteriors):
    """One that makes other images of golden seeds, as of an fp16 file, too."""

    def sample(self, seeds: object, truncation: float, labels: object) -> list[bytes]:
        return [bytes([image[0] ^ 1]) + image[1:] for image in super().sample(seeds, truncation, labels)]  # type: ignore[arg-type]


def golden_posteriors(remote: RemoteModel) -> str:
    return dict(remote_checks(remote))["golden posteriors"]()


def test_a_server_that_gives_other_posteriors_is_found_out(shared_service: Service) -> None:
    remote = OtherPosteriors(shared_service.address, "tiny-vae", None)
    with pytest.raises(CheckError, match="golden answers are exact, and 8 of 8 posteriors are not, first of seed 0"):
        golden_posteriors(remote)
    remote.model.golden = "equivalent"  # another kind of processor: the server has compared them
    assert golden_posteriors(remote) == "0 of 8 posteriors: exact; the server has compared the others"


def test_posteriors_of_a_server_with_other_golden_images_are_not_asked(shared_service: Service) -> None:
    remote = OtherImages(shared_service.address, "tiny-vae", None)
    assert golden_posteriors(remote).startswith("not asked: this server's golden images are not those of the fp32 file")


def test_a_server_of_an_earlier_release_is_asked_for_no_posteriors(shared_service: Service) -> None:
    remote = RemoteModel(shared_service.address, "tiny-vae", None)
    remote.encode_certificate = None
    assert "golden posteriors" not in dict(remote_checks(remote))


@pytest.mark.parametrize(
    ("kind", "failing"), [(Altered, {"noise", "batches"}), (OtherGolden, {"golden seeds", "batches"})]
)
def test_a_server_that_gives_other_bytes_is_found_out(
    shared_service: Service, kind: type[RemoteModel], failing: set[str]
) -> None:
    failed = set()
    for name, check in remote_checks(kind(shared_service.address, "tiny-gan", None)):
        try:
            check()
        except CheckError:
            failed.add(name)
    assert failed == failing

"""The canary and what follows: a model that answers wrongly, late or not at all is taken out and loaded anew."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ganvas_core.session import CpuSession
from serving.backends.onnxruntime.ganvas_counts import Read
from serving.repository.golden import GoldenMismatchError, golden_inputs
from serving.repository.reader import ModelVersion, read_repository
from serving.supervise import medic as medic_module
from serving.supervise.canary import CanaryError, make_one
from serving.supervise.medic import Medic
from tests.support.certificates import without_golden_posteriors

TIMEOUT_S = 60.0
KEY = ("tiny-gan", 1)
VAE = ("tiny-vae", 1)
MODELS = Path("/nowhere")
STUB = (
    "import os, sys, time\n"
    "stub = os.posix_spawn(sys.executable, "
    "[sys.executable, '-c', 'import time; time.sleep(600)', '/nowhere/tiny-gan/1/model.py'], os.environ)\n"
    "print(stub, flush=True)\n"
    "time.sleep(600)\n"
)
"""A Triton with one stub, which it does not count when it dies."""

Reply = tuple[int, bytes] | OSError


class FakeHttp:
    """Triton's HTTP, which gives these replies in turn, and the last one for ever."""

    def __init__(self, replies: Iterable[Reply], *, live: bool | None = True) -> None:
        self.replies = list(replies)
        self.live = live
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        """The JSON of each, with the bytes of its tensors beside it, as `raw`."""

    def ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, bytes]:
        self.asked.append(path)
        end = int(headers["Inference-Header-Content-Length"])
        self.requests.append(json.loads(body[:end]) | {"raw": body[end:]})
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, OSError):
            raise reply
        return reply

    def is_live(self) -> bool | None:
        return self.live


@pytest.fixture(scope="module")
def entry(model_repository: Path) -> ModelVersion:
    return read_repository(model_repository).find(*KEY)


@pytest.fixture(scope="module")
def image(entry: ModelVersion) -> bytes:
    """The first golden image, as Triton sends it."""
    (images,) = CpuSession(entry.folder / entry.file_name).run(golden_inputs(entry, "sample"))
    return reply_of(image=images[0])


@pytest.fixture(scope="module")
def vae(model_repository: Path) -> ModelVersion:
    return read_repository(model_repository).find(*VAE)


@pytest.fixture(scope="module")
def posterior(vae: ModelVersion) -> list[NDArray[np.float32]]:
    """Mean and logvar of the first golden image."""
    folder = vae.folder_of(vae.part("encode"))
    outputs = CpuSession(folder / vae.file_name).run(golden_inputs(vae, "encode"))
    return [output[0] for output in outputs]


def reply_of(**outputs: NDArray[Any]) -> bytes:
    """Triton's reply to a batch of one: JSON, then each tensor."""
    head = [
        {"name": name, "shape": [1, *array.shape], "parameters": {"binary_data_size": array.nbytes}}
        for name, array in outputs.items()
    ]
    return b"".join([json.dumps({"outputs": head}).encode(), *(array.tobytes() for array in outputs.values())])


def wrong(reply: bytes) -> bytes:
    """Every byte of the tensors another."""
    end = reply.index(b"]}") + 2
    return reply[:end] + bytes(255 - value for value in reply[end:])


def make(entry: ModelVersion, *replies: Reply) -> None:
    make_one(cast(Any, FakeHttp(replies)), entry, "sample", 0, 1.0)


def test_canary_passes_the_golden_image_after_the_json_of_the_reply(entry: ModelVersion, image: bytes) -> None:
    http = FakeHttp([(200, image)])
    make_one(cast(Any, http), entry, "sample", len(entry.golden("sample")), 1.0)
    assert http.asked == ["/v2/models/tiny-gan/versions/1/infer"]
    (request,) = http.requests
    assert [tensor["name"] for tensor in request["inputs"]] == ["seed", "truncation", "label"]
    assert sum(tensor["parameters"]["binary_data_size"] for tensor in request["inputs"]) == len(request["raw"])


def test_canary_of_an_encoder_sends_a_golden_image_and_passes_its_posterior(
    vae: ModelVersion, posterior: list[NDArray[np.float32]]
) -> None:
    mean, logvar = posterior
    http = FakeHttp([(200, reply_of(logvar=logvar, mean=mean))])  # in whatever order Triton has them
    make_one(cast(Any, http), vae, "encode", 0, 1.0)
    assert http.asked == ["/v2/models/tiny-vae-encode/versions/1/infer"]
    (request,) = http.requests
    assert request["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 1], "parameters": {"binary_data_size": 1024}}
    ]
    assert hashlib.sha256(request["raw"]).hexdigest() == vae.served.golden[0].sha256


def test_canary_of_an_encoder_takes_its_turn_of_golden_images(
    vae: ModelVersion, posterior: list[NDArray[np.float32]]
) -> None:
    http = FakeHttp([(200, reply_of(mean=posterior[0], logvar=posterior[1]))])
    with pytest.raises(GoldenMismatchError, match=f"posterior of golden seed {vae.served.golden[1].seed} differs"):
        make_one(cast(Any, http), vae, "encode", 1, 1.0)


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("change", [1e-2, float("nan")])
def test_canary_of_an_encoder_rejects_another_posterior(
    vae: ModelVersion, posterior: list[NDArray[np.float32]], output: int, change: float
) -> None:
    changed = [array.copy() for array in posterior]
    changed[output][-1] += np.float32(change)
    http = FakeHttp([(200, reply_of(mean=changed[0], logvar=changed[1]))])
    with pytest.raises(GoldenMismatchError, match="the posterior of golden seed 0 differs by"):
        make_one(cast(Any, http), vae, "encode", 0, 1.0)


def test_canary_rejects_another_image(entry: ModelVersion, image: bytes) -> None:
    with pytest.raises(GoldenMismatchError, match="golden seed 0 differs"):
        make(entry, (200, wrong(image)))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((500, b"Stub process is not healthy."), "tiny-gan version 1 answered 500: Stub process is not healthy."),
        ((200, b"{}"), "answered 200"),
        ((200, b""), "answered 200"),
        ((200, reply_of(other=np.zeros(3))), "answered 200"),
        ((200, reply_of(image=np.zeros((32, 32, 1), np.uint8))[:-1]), "answered 200"),
        ((200, b'{"outputs": [{"name": "image", "data": [1]}]}'), "answered 200"),
        (TimeoutError("timed out"), "gave no answer within 1 s"),
    ],
)
def test_canary_says_why_there_is_no_image(entry: ModelVersion, reply: Reply, message: str) -> None:
    with pytest.raises(CanaryError, match=message):
        make(entry, reply)


class FakeVersions:
    """One version, which is well again after `attempts` loads."""

    def __init__(self, entry: ModelVersion, *, attempts: int = 1) -> None:
        self.entries = {(entry.name, entry.version): entry}
        self.out: dict[tuple[str, int], str] = {}
        self.medic: Medic | None = None
        self.causes: set[str | None] = set()
        self.reloads: list[tuple[list[str], str]] = []
        self._attempts = attempts

    def refused(self) -> list[tuple[str, int]]:
        return [("tiny-gan", 2)]

    def was_served(self, key: tuple[str, int]) -> bool:
        return True

    def pins_not_kept(self) -> dict[tuple[str, int], str]:
        return {}

    def loads(self, key: tuple[str, int]) -> int:
        return 1 + len(self.reloads)

    async def reload(self, key: tuple[str, int], models: list[str], reason: str) -> str | None:
        assert self.medic is not None
        self.causes.add(self.medic.states()[key])
        self.reloads.append((models, reason))
        return None if len(self.reloads) >= self._attempts else "it is still wrong"


async def run(
    versions: FakeVersions,
    http: FakeHttp,
    until: Callable[[Medic], bool],
    *,
    pid: int | None = None,
    held: int = 0,
    computed: Callable[[], list[Read]] = list,
) -> Medic:
    """A medic that makes golden images without a pause, until the condition holds."""
    keeper = SimpleNamespace(ready=asyncio.Event(), start_s=1.0, restarts=0)
    keeper.ready.set()
    triton = SimpleNamespace(pid=pid or os.getpid(), http=http, held=lambda pid: held, computed=computed)
    medic = Medic(
        cast(Any, versions),
        cast(Any, triton),
        cast(Any, keeper),
        MODELS,
        parts=[],
        canary_s=0.02,
        canary_timeout_s=1.0,
    )
    versions.medic = medic
    task = asyncio.create_task(medic.run())
    async with asyncio.timeout(TIMEOUT_S):
        while not until(medic):
            assert not task.done()
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return medic


def test_model_that_gives_a_wrong_image_is_loaded_anew_at_once(entry: ModelVersion, image: bytes) -> None:
    versions = FakeVersions(entry)
    medic = asyncio.run(run(versions, FakeHttp([(200, wrong(image))]), lambda _: bool(versions.reloads)))
    models, reason = versions.reloads[0]
    assert models == ["tiny-gan"]
    assert "differs by" in reason
    assert medic.failures >= 1
    assert versions.causes == {"wrong answer"}
    assert medic.states()["tiny-gan", 2] == "rejected"


def test_load_that_does_not_help_is_tried_again(entry: ModelVersion, image: bytes) -> None:
    versions = FakeVersions(entry, attempts=2)
    medic = asyncio.run(run(versions, FakeHttp([(200, wrong(image))]), lambda medic: medic.reloads > 0))
    assert [reason for _, reason in versions.reloads[:2]] == [versions.reloads[0][1]] * 2
    assert medic.reloads >= 1


def test_healing_goes_on_after_an_error_that_nobody_foresaw(
    entry: ModelVersion, image: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(FakeVersions):
        async def reload(self, key: tuple[str, int], models: list[str], reason: str) -> str | None:
            if await super().reload(key, models, reason) is None:
                return None
            raise RuntimeError("a defect")

    medic = asyncio.run(
        run(Faulty(entry, attempts=2), FakeHttp([(200, wrong(image))]), lambda medic: medic.reloads > 0)
    )
    assert medic.reloads >= 1
    (told,) = [record for record in caplog.records if "event=still-out" in record.message]
    assert "a defect" in told.message
    assert told.exc_info is not None


def test_triton_that_is_started_again_is_not_waited_for_as_long_as_a_failed_load(
    entry: ModelVersion, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medic_module, "FIRST_DELAY_S", 600.0)
    versions = FakeVersions(entry, attempts=2)

    def until(medic: Medic) -> bool:
        if versions.reloads:
            cast(Any, medic._keeper).restarts = 1
        return len(versions.reloads) > 1

    asyncio.run(run(versions, FakeHttp([(200, wrong(image))]), until))
    assert versions.reloads[1][0] == []  # it has loaded everything anew


def test_one_late_image_is_not_held_against_a_model_but_two_are(entry: ModelVersion) -> None:
    late = TimeoutError("timed out")
    versions = FakeVersions(entry)
    http = FakeHttp([late])
    medic = asyncio.run(run(versions, http, lambda _: bool(versions.reloads)))
    assert "gave no answer within 1 s" in versions.reloads[0][1]
    assert versions.causes == {"no answer"}
    assert medic.failures >= 2


def test_late_images_are_not_held_against_a_model_that_computes(
    entry: ModelVersion, caplog: pytest.LogCaptureFixture
) -> None:
    done = itertools.count(1)

    def computed() -> list[Read]:
        number = next(done)
        return [Read(model, "1", 1, number, 0.5, os.getpid()) for model in ("tiny-gan", "tiny-gan-decode")]

    versions = FakeVersions(entry)
    http = FakeHttp([TimeoutError("timed out")])
    asyncio.run(run(versions, http, lambda medic: medic.failures > 5, computed=computed))
    assert not versions.reloads
    assert "Meanwhile it computed" in caplog.text


def test_batches_of_another_version_do_not_speak_for_a_model(entry: ModelVersion) -> None:
    done = itertools.count(1)

    def computed() -> list[Read]:
        return [Read("tiny-gan", "1", 1, 7, 0.5, os.getpid()), Read("tiny-gan", "2", 0, next(done), 0.5, os.getppid())]

    versions = FakeVersions(entry)
    http = FakeHttp([TimeoutError("timed out")])
    asyncio.run(run(versions, http, lambda _: bool(versions.reloads), computed=computed))
    assert versions.causes == {"no answer"}


def test_process_that_computes_does_not_speak_for_one_that_is_stuck(entry: ModelVersion) -> None:
    done = itertools.count(1)

    def computed() -> list[Read]:
        return [
            Read("tiny-gan", "1", 1, next(done), 0.5, os.getpid()),
            Read("tiny-gan", "1", 3, 7, 0.5, os.getppid()),
        ]

    versions = FakeVersions(entry)
    http = FakeHttp([TimeoutError("timed out")])
    asyncio.run(run(versions, http, lambda _: bool(versions.reloads), computed=computed))
    assert versions.causes == {"no answer"}


def test_requests_of_a_dead_process_do_not_speak_against_a_model_that_computes(entry: ModelVersion) -> None:
    done = itertools.count(1)
    with subprocess.Popen(["true"]) as dead:
        pass

    def computed() -> list[Read]:
        number = next(done)
        alive = [Read(model, "1", 1, number, 0.5, os.getpid()) for model in ("tiny-gan", "tiny-gan-decode")]
        return [*alive, Read("tiny-gan", "1", 3, 7, 0.5, dead.pid)]

    versions = FakeVersions(entry)
    http = FakeHttp([TimeoutError("timed out")])
    asyncio.run(run(versions, http, lambda medic: medic.failures > 5, computed=computed))
    assert not versions.reloads


def test_model_that_computes_and_gives_no_image_is_taken_out(entry: ModelVersion) -> None:
    done = itertools.count(1)

    def computed() -> list[Read]:
        return [Read("tiny-gan", "1", 1, next(done), 0.5, os.getpid())]

    versions = FakeVersions(entry)
    http = FakeHttp([(500, b"Stub process is not healthy.")])
    asyncio.run(run(versions, http, lambda _: bool(versions.reloads), computed=computed))
    assert versions.causes == {"no answer"}


class OneModelFails(FakeHttp):
    """Every model gives the golden answer of its turn, but the encoder gives `reply`."""

    def __init__(self, vae: ModelVersion, reply: Reply | None) -> None:
        super().__init__([])
        self._encoder = reply
        self._answers: dict[str, list[bytes]] = {}
        for part in vae.parts():
            inputs = golden_inputs(vae, part.role) if vae.golden(part.role) else {}
            outputs = CpuSession(vae.folder_of(part) / vae.file_name).run(inputs) if inputs else []
            names = [tensor.name for tensor in part.interface.outputs]
            rows = zip(*outputs, strict=True)
            self._answers[part.name] = [reply_of(**dict(zip(names, row, strict=True))) for row in rows]

    def ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, bytes]:
        model = path.split("/")[3]
        turn = self.asked.count(path) + 1
        self.replies = [(200, self._answers[model][turn % len(self._answers[model])])]
        if model.endswith("-encode") and self._encoder is not None:
            self.replies = [self._encoder]
        return super().ask(method, path, body, headers, timeout_s=timeout_s)


def test_encoder_that_gives_another_posterior_is_loaded_anew_at_once(vae: ModelVersion) -> None:
    other = reply_of(mean=np.zeros(8, np.float32), logvar=np.zeros(8, np.float32))
    versions = FakeVersions(vae)
    medic = asyncio.run(run(versions, OneModelFails(vae, (200, other)), lambda _: bool(versions.reloads)))
    models, reason = versions.reloads[0]
    assert models == ["tiny-vae-encode"]
    assert "the posterior of golden seed" in reason
    assert medic.failures >= 1
    assert versions.causes == {"wrong answer"}


@pytest.mark.parametrize(
    ("reply", "message"),
    [(TimeoutError("timed out"), "tiny-vae-encode version 1 gave no answer"), ((500, b"no stub"), "answered 500")],
)
def test_encoder_that_is_twice_late_or_gives_an_error_is_loaded_anew(
    vae: ModelVersion, reply: Reply, message: str
) -> None:
    versions = FakeVersions(vae)
    medic = asyncio.run(run(versions, OneModelFails(vae, reply), lambda _: bool(versions.reloads)))
    models, reason = versions.reloads[0]
    assert models == ["tiny-vae-encode"]
    assert message in reason
    assert medic.failures >= 2
    assert versions.causes == {"no answer"}


def test_every_part_of_a_sound_version_is_asked_in_turn(vae: ModelVersion) -> None:
    versions, http = FakeVersions(vae), OneModelFails(vae, None)
    medic = asyncio.run(run(versions, http, lambda _: len(http.asked) >= 30))
    assert (medic.failures, versions.reloads) == (0, [])
    assert [path.split("/")[3] for path in http.asked[:6]] == ["tiny-vae", "tiny-vae-decode", "tiny-vae-encode"] * 2


def test_encoder_of_an_earlier_release_is_not_asked(vae: ModelVersion, tmp_path: Path) -> None:
    shutil.copytree(vae.folder.parent.parent, tmp_path / "repository")
    without_golden_posteriors(tmp_path / "repository" / "tiny-vae-encode" / "1")
    old = read_repository(tmp_path / "repository").find(*VAE)
    versions, http = FakeVersions(old), OneModelFails(old, (500, b"it is dead"))
    medic = asyncio.run(run(versions, http, lambda _: len(http.asked) >= 10))
    assert medic.failures == 0
    assert {path.split("/")[3] for path in http.asked} == {"tiny-vae", "tiny-vae-decode"}


def test_triton_that_is_silent_is_killed(entry: ModelVersion, image: bytes) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            http = FakeHttp([(200, image)], live=None)
            versions = FakeVersions(entry)
            asyncio.run(run(versions, http, lambda _: process.poll() is not None, pid=process.pid))
            assert process.returncode == -signal.SIGKILL
        finally:
            process.kill()


@pytest.mark.parametrize("held", [0, 3])
def test_death_of_a_process_costs_triton_its_life_only_if_requests_hang_in_it(
    entry: ModelVersion, image: bytes, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This Triton never counts its dead: how long it may leave one uncounted is not what is looked at here.
    monkeypatch.setattr(medic_module, "REMAINS_S", 600.0)
    with subprocess.Popen([sys.executable, "-c", STUB], stdout=subprocess.PIPE, text=True) as triton:
        assert triton.stdout is not None
        stub = int(triton.stdout.readline())
        versions = FakeVersions(entry)

        def until(medic: Medic) -> bool:
            if stub in medic._ends:  # it is watched
                os.kill(stub, signal.SIGKILL)
            return triton.poll() is not None if held else any("is dead" in reason for _, reason in versions.reloads)

        try:
            asyncio.run(run(versions, FakeHttp([(200, image)]), until, pid=triton.pid, held=held))
            assert (triton.poll() is None) == (not held)
            told = [reason for _, reason in versions.reloads if reason == f"the process {stub} of tiny-gan is dead"]
            assert len(told) == (0 if held else 1)
        finally:
            triton.kill()


def test_version_that_the_service_refused_is_proven_again_before_it_is_loaded_anew(
    entry: ModelVersion, image: bytes
) -> None:
    versions = FakeVersions(entry, attempts=2)
    told = False

    def until(medic: Medic) -> bool:
        nonlocal told
        if not told:
            told = True
            versions.out[KEY] = "is being loaded again"  # so that no canary comes between
            medic.refused(KEY, "Triton did not answer within 15 s.")
        return medic.reloads > 0

    medic = asyncio.run(run(versions, FakeHttp([(200, image)]), until))
    reason = "Triton did not answer within 15 s."
    assert versions.reloads == [([], reason), (["tiny-gan", "tiny-gan-decode"], reason)]
    assert versions.causes == {"rejected"}
    assert medic.states()[KEY] is None


def test_healing_ends_with_the_medic(entry: ModelVersion, image: bytes) -> None:
    class Stuck(FakeVersions):
        ended = False

        async def reload(self, key: tuple[str, int], models: list[str], reason: str) -> str | None:
            self.reloads.append((models, reason))
            try:
                await asyncio.sleep(600)
            finally:
                self.ended = True
            return None

    versions = Stuck(entry)

    async def heal() -> bool:
        medic = await run(versions, FakeHttp([(200, wrong(image))]), lambda _: bool(versions.reloads))
        medic.refused(KEY, "it is late.")  # what comes after the end is left alone
        await asyncio.sleep(0)
        return versions.ended

    assert asyncio.run(heal())
    assert len(versions.reloads) == 1

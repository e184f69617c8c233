"""Versions that come, go and fail while others are served: nothing waits for what does not concern it."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serving.repository.pins import write_pins
from serving.repository.reader import ModelVersion, Rejected, Repository, list_versions
from serving.service.inference.wanted import VersionId, Wanted
from serving.supervise import arrivals
from serving.supervise import versions as versions_module
from serving.supervise.staging import Staging
from serving.supervise.versions import Versions

MODEL, OTHER = "plain-gan", "tiny-gan"
TIMEOUT_S = 60.0
LOAD_S = 600.0
"""So long that a test which waits for a proof that never comes is late."""
WRONG = "golden seed 0 differs by 9 levels"


class FakeTriton:
    """Loads at once, but for Triton models that are held or fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.held: set[str] = set()
        self.live: bool | None = True
        self.fail: list[OSError] = []
        self._released = threading.Event()

    def load(self, model: str, timeout_s: float) -> str | None:
        self.asked.append(("load", model))
        if self.fail:
            raise self.fail.pop()
        if model in self.held:
            assert self._released.wait(TIMEOUT_S)
        return None

    def unload(self, model: str, timeout_s: float) -> str | None:
        self.asked.append(("unload", model))
        return None

    def is_live(self) -> bool | None:
        return self.live

    def release(self) -> None:
        self.held.clear()
        self._released.set()


class FakeService:
    """Proves what is wanted, but for what it was told to refuse once, or to leave alone."""

    def __init__(self) -> None:
        self.versions: Versions | None = None
        self.wanted = Wanted()
        self.refuse: list[Rejected] = []
        self.silent = False
        self.tried: dict[VersionId, int] = {}

    def command(self, name: str, **fields: Any) -> None:
        self.wanted = Wanted.from_command(fields)
        for key, loads in self.wanted.versions.items():
            if self.tried.get(key) != loads:
                asyncio.get_running_loop().call_soon(self._prove, key, loads)

    def _prove(self, key: VersionId, loads: int) -> None:
        if not self.silent and self.wanted.versions.get(key) == loads and self.tried.get(key) != loads:
            self.tried[key] = loads
            cast(Versions, self.versions).on_verdict(key, loads, self.refuse.pop() if self.refuse else None)


class Run:
    """Versions of a repository, over a Triton and a service that do as the test says."""

    def __init__(self, repository: Path, folder: Path, *, retire_s: float) -> None:
        self.triton, self.service = FakeTriton(), FakeService()
        self.staging = Staging(repository, folder)
        staged = [self.staging.add(*key) for key in list_versions(repository)]
        entries = tuple(entry for entry in staged if isinstance(entry, ModelVersion))
        found = Repository(folder=self.staging.models, versions=entries, rejected=())
        part = cast(Any, SimpleNamespace(http=self.triton))
        service = cast(Any, self.service)
        self.versions = Versions(repository, self.staging, found, part, service, load_s=LOAD_S, retire_s=retire_s)
        self.service.tried = dict.fromkeys(self.versions.entries, 1)
        self.versions.on_serving([{"name": entry.name, "version": entry.version} for entry in entries])
        self.service.versions = self.versions

    def follow(self, test: Callable[[], Awaitable[None]]) -> None:
        """Run a test while the repository is followed."""

        async def both() -> None:
            following = asyncio.create_task(self.versions.follow())
            try:
                await test()
            finally:
                self.triton.release()
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left

        asyncio.run(both())


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions_module, "POLL_S", 0.01)
    monkeypatch.setattr(arrivals, "FIRST_DELAY_S", 0.05)


@pytest.fixture
def start(repository: Path, add_version: Callable[[str, int], None], tmp_path: Path) -> Callable[..., Run]:
    """Versions 1 and 2 of plain-gan, 1 of tiny-gan."""
    shutil.rmtree(repository / "tiny-vae")
    add_version(MODEL, 2)
    (tmp_path / "run").mkdir()
    return lambda retire_s=0.0: Run(repository, tmp_path / "run", retire_s=retire_s)


def delete(repository: Path, model: str, version: int) -> None:
    for name in (model, f"{model}-decode"):
        shutil.rmtree(repository / name / str(version))


def test_pin_does_not_wait_for_a_version_that_loads(
    start: Callable[..., Run], repository: Path, add_version: Callable[[str, int], None]
) -> None:
    run = start()

    async def test() -> None:
        run.triton.held = {f"{OTHER}-decode"}
        add_version(OTHER, 2)
        await eventually(lambda: bool(run.triton.asked))
        write_pins(repository, {MODEL: 1})
        await eventually(lambda: run.service.wanted.defaults.get(MODEL) == 1)
        assert run.triton.held
        run.triton.release()
        await eventually(lambda: run.versions.default(OTHER) == 2)

    run.follow(test)


def test_pin_does_not_wait_for_a_version_that_is_retired(start: Callable[..., Run], repository: Path) -> None:
    run = start(retire_s=600)

    async def test() -> None:
        delete(repository, MODEL, 1)
        await eventually(lambda: (MODEL, 1) not in run.versions.entries)
        write_pins(repository, {OTHER: 7})
        await eventually(lambda: (OTHER, 7) in run.versions.pins_not_kept())
        assert not run.triton.asked

    run.follow(test)


def test_pin_of_a_version_that_is_being_added_waits_for_it(
    start: Callable[..., Run], repository: Path, add_version: Callable[[str, int], None]
) -> None:
    run = start()

    async def test() -> None:
        write_pins(repository, {MODEL: 1})
        await eventually(lambda: run.versions.default(MODEL) == 1)
        run.triton.held = {MODEL}
        add_version(MODEL, 3)
        write_pins(repository, {MODEL: 3})
        await eventually(lambda: ("load", MODEL) in run.triton.asked)
        for _ in range(10):
            await asyncio.sleep(0.01)
            assert run.service.wanted.defaults[MODEL] == 1
            assert not run.service.wanted.out
        run.triton.release()
        await eventually(lambda: run.versions.default(MODEL) == 3)

    run.follow(test)


def test_version_that_is_put_back_while_it_is_retired_is_served_again(
    start: Callable[..., Run], repository: Path, add_version: Callable[[str, int], None]
) -> None:
    run = start(retire_s=0.2)

    async def test() -> None:
        add_version(MODEL, 3)
        await eventually(lambda: run.versions.default(MODEL) == 3)
        delete(repository, MODEL, 3)
        await eventually(lambda: run.versions.default(MODEL) == 2)
        add_version(MODEL, 3)
        await eventually(lambda: run.versions.default(MODEL) == 3)

    run.follow(test)


def full(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    copyfile, full = shutil.copyfile, [OSError(errno.ENOSPC, "No space left on device")]

    def fail_once(source: Path, target: Path) -> None:
        if full:
            raise full.pop()
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", fail_once)


def away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.triton.fail = [ConnectionRefusedError("Connection refused")]


def dead(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "the process that runs model tiny-gan is dead."
    run.service.refuse = [Rejected(name=OTHER, version=2, reason=reason, transient=True)]


@pytest.mark.parametrize("fault", [full, away, dead])
def test_version_that_fails_through_no_fault_of_its_own_is_tried_again(
    start: Callable[..., Run],
    add_version: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Run, pytest.MonkeyPatch], None],
) -> None:
    run = start()

    async def test() -> None:
        add_version(OTHER, 2)
        fault(run, monkeypatch)
        await eventually(lambda: run.versions.default(OTHER) == 2)
        assert (OTHER, 2) not in run.versions.rejected

    run.follow(test)
    assert sum("event=refused" in line and "retry_s=0.05" in line for line in caplog.messages) == 1


def test_version_that_makes_other_images_is_tried_once(
    start: Callable[..., Run], add_version: Callable[[str, int], None]
) -> None:
    run = start()

    async def test() -> None:
        run.service.refuse = [Rejected(name=OTHER, version=2, reason=WRONG)]
        add_version(OTHER, 2)
        await eventually(lambda: (OTHER, 2) in run.versions.rejected)
        await asyncio.sleep(0.3)
        assert run.service.tried[OTHER, 2] == 1
        assert run.versions.default(OTHER) == 1

    run.follow(test)


def test_configuration_of_a_version_that_makes_other_images_goes_with_it(
    start: Callable[..., Run], repository: Path, add_version: Callable[[str, int], None]
) -> None:
    run = start()
    path = run.staging.models / OTHER / "config.pbtxt"
    before = path.read_text()

    async def test() -> None:
        run.service.refuse = [Rejected(name=OTHER, version=2, reason=WRONG)]
        (repository / OTHER / "config.pbtxt").write_text(before + "model_transaction_policy {}\n")
        add_version(OTHER, 2)
        await eventually(lambda: (OTHER, 2) in run.versions.rejected)
        assert path.read_text() == before

    run.follow(test)


def test_healing_does_not_wait_for_another_model_that_loads(
    start: Callable[..., Run], add_version: Callable[[str, int], None]
) -> None:
    run = start()

    async def test() -> None:
        run.triton.held = {f"{OTHER}-decode"}
        add_version(OTHER, 2)
        await eventually(lambda: bool(run.triton.asked))
        assert await asyncio.wait_for(run.versions.reload((MODEL, 1), [MODEL], "it is dead"), TIMEOUT_S) is None
        assert run.triton.held
        assert not run.versions.out

    run.follow(test)


def test_healing_leaves_a_version_that_was_retired_meanwhile(start: Callable[..., Run], repository: Path) -> None:
    run = start()

    async def test() -> None:
        run.service.silent = True
        first = asyncio.create_task(run.versions.reload((MODEL, 1), [], "it is dead"))
        await eventually(lambda: run.versions.loads((MODEL, 1)) == 2)
        second = asyncio.create_task(run.versions.reload((MODEL, 1), [MODEL], "it is dead"))
        delete(repository, MODEL, 1)
        async with asyncio.timeout(TIMEOUT_S):  # no proof is waited for
            assert [await first, await second] == [None, None]
        assert (MODEL, 1) not in run.versions.out
        assert (MODEL, 1) not in run.service.wanted.out
        assert run.versions.default(MODEL) == 2

    run.follow(test)


def test_healing_leaves_a_new_version_that_was_refused_meanwhile(
    start: Callable[..., Run], add_version: Callable[[str, int], None]
) -> None:
    run = start()

    async def test() -> None:
        run.service.silent = True
        add_version(OTHER, 2)
        await eventually(lambda: (OTHER, 2) in run.versions.entries)
        healing = asyncio.create_task(run.versions.reload((OTHER, 2), [OTHER], "its process is dead"))
        await asyncio.sleep(0.05)
        assert (OTHER, 2) in run.service.wanted.versions  # its proof goes on
        run.versions.on_verdict((OTHER, 2), 1, Rejected(name=OTHER, version=2, reason="golden seed 0 differs"))
        assert await healing is None
        assert run.triton.asked.count(("load", OTHER)) == 2  # for its proof, and to leave version 1 alone
        assert (OTHER, 2) not in run.service.wanted.out

    run.follow(test)


def test_served_version_that_the_service_refuses_stays_the_default_and_is_to_be_healed(
    start: Callable[..., Run],
) -> None:
    run = start()
    late = Rejected(name=MODEL, version=2, reason="Triton did not answer within 15 s.", transient=True)
    others = [{"name": name, "version": version} for name, version in run.versions.entries if version == 1]

    async def test() -> None:
        run.versions.on_serving(others)  # a service that came back
        assert run.service.wanted.defaults[MODEL] == 2
        assert not run.versions.on_verdict((MODEL, 2), 2, late)  # of another load
        assert run.versions.on_verdict((MODEL, 2), 1, late)
        run.service.silent = True
        healing = asyncio.create_task(run.versions.reload((MODEL, 2), [], late.reason))
        await eventually(lambda: (MODEL, 2) in run.service.wanted.out)
        assert run.service.wanted.defaults[MODEL] == 2
        run.versions.on_verdict((MODEL, 2), 2, None)
        assert await healing is None
        assert not run.service.wanted.out

    run.follow(test)


@pytest.mark.parametrize(
    ("key", "verb"), [((OTHER, 1), "unload"), ((MODEL, 1), "load"), ((MODEL, 2), "load")], ids=["only", "old", "new"]
)
@pytest.mark.parametrize("again", [True, False], ids=["same Triton", "new Triton"])
def test_version_whose_proof_is_refused_is_not_left_in_triton(
    start: Callable[..., Run], key: VersionId, verb: str, again: bool
) -> None:
    run = start()
    parts = [f"{key[0]}-decode", key[0]]

    async def test() -> None:
        run.service.refuse = [Rejected(name=key[0], version=key[1], reason=WRONG)]
        assert await run.versions.reload(key, [key[0]], "it is wrong") == WRONG
        assert sorted(run.triton.asked[-2:]) == sorted((verb, part) for part in parts)
        for part in parts:
            assert not (run.staging.models / part / str(key[1])).exists()
            assert (part in run.staging.loadable()) == (verb == "load")
        assert key in run.service.wanted.out
        assert run.service.wanted.defaults[key[0]] == max(
            version for name, version in run.versions.entries if name == key[0]
        )
        run.triton.asked.clear()
        assert await run.versions.reload(key, [key[0]] if again else [], "it is wrong") is None
        for part in parts:
            assert ("load", part) in run.triton.asked
            assert (run.staging.models / part / str(key[1]) / "model.onnx").is_file()
        assert not run.service.wanted.out

    run.follow(test)


@pytest.mark.parametrize(("transient", "stays"), [(True, True), (False, False)])
def test_triton_that_is_away_loads_what_is_not_known_to_be_wrong_when_it_is_back(
    start: Callable[..., Run], transient: bool, stays: bool
) -> None:
    run = start()

    async def test() -> None:
        run.triton.live = None
        run.service.refuse = [Rejected(name=OTHER, version=1, reason="as it may be", transient=transient)]
        assert await run.versions.reload((OTHER, 1), [], "it is dead") == "as it may be"
        assert (OTHER in run.staging.loadable()) == stays

    run.follow(test)


@pytest.mark.parametrize("key", [(MODEL, 1), (OTHER, 1)])
def test_disk_that_is_full_for_a_moment_does_not_end_the_healing(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, key: VersionId
) -> None:
    run = start()
    full = [OSError(errno.ENOSPC, "No space left on device")]
    rename = Path.rename

    def fail_once(source: Path, target: Path) -> Path:
        if full:
            raise full.pop()
        return rename(source, target)

    async def test() -> None:
        run.service.refuse = [] if key[0] == MODEL else [Rejected(name=key[0], version=key[1], reason=WRONG)]
        monkeypatch.setattr(Path, "rename", fail_once)
        problem = await run.versions.reload(key, [key[0]], "it is wrong")
        assert problem is not None
        assert "No space left on device" in problem
        assert key in run.service.wanted.out
        assert await run.versions.reload(key, [key[0]], "it is wrong") is None
        assert not run.service.wanted.out

    run.follow(test)

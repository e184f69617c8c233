"""The metrics of a real `./ganvas serve`: every part's on one address, all documented, and those of the dashboard."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganvas_client import GanvasError, Sampler
from serving.keys.store import add_key
from tests.support.gateway import eventually
from tests.support.serve import Serve, running_serve

pytestmark = [pytest.mark.triton, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
DASHBOARD = CHECKOUT / "serving" / "dashboards" / "ganvas.json"
PAGE = CHECKOUT / "docs" / "metrics.md"
WAIT_S = 90.0


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A key with quotas, and its file."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return add_key(file, "studio", rate=1000, concurrency=8), file


@pytest.fixture(scope="module")
def serve(model_repository: Path, key: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that has answered calls of several kinds."""
    with running_serve(model_repository, tmp_path_factory.mktemp("serve"), f"--keys-file={key[1]}") as serve:
        with Sampler(serve.ready["service"], api_key=key[0], direct=False) as sampler:
            sampler.sample("tiny-gan", range(20), format="png")
            assert len(list(sampler.sample_stream("tiny-gan", range(50)))) == 50
            sampler.encode("tiny-vae", sampler.sample("tiny-vae", range(3)))
            with pytest.raises(GanvasError):
                sampler.sample("nobody", 1)
        yield serve


def read(serve: Serve) -> str:
    with urllib.request.urlopen(f"http://{serve.ready['metrics']}/metrics", timeout=30) as reply:
        text: str = reply.read().decode()
    return text


def names(text: str) -> set[str]:
    """Of every sample, and of every metric that has none yet."""
    return set(re.findall(r"^(?:# TYPE )?([a-z]\w+)[{ ]", text, re.MULTILINE))


def test_every_part_is_on_the_one_address(serve: Serve) -> None:
    for name in (
        "ganvas_restarts_total",
        "ganvas_requests_total",
        "nv_inference_request_success",
        "envoy_http_downstream_rq_total",
    ):
        # A part that is busy for a moment leaves a gap.
        eventually(lambda name=name: name in names(read(serve)))  # type: ignore[misc]


def test_every_metric_of_ours_is_documented(serve: Serve) -> None:
    page = PAGE.read_text(encoding="utf-8")
    families: set[str] = set()

    def found() -> set[str]:
        families.update(re.findall(r"^# TYPE (ganvas_\w+) ", read(serve), re.MULTILINE))
        return families

    documented = set(re.findall(r"^\| `(ganvas_\w+)`", page, re.MULTILINE))
    assert len(documented) > 10
    eventually(lambda: found() >= documented)
    assert families == documented


def test_dashboard_shows_metrics_that_there_are(serve: Serve) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    without_labels = [re.sub(r"by \([^)]*\)|\{[^}]*\}", "", expression) for expression in expressions]
    shown = {name for text in without_labels for name in re.findall(r"\b(?:ganvas|nv|envoy)_\w+", text)}
    texts: list[str] = []

    def has_all() -> bool:
        texts.append(read(serve))
        return shown <= names(texts[-1])

    assert len(expressions) >= 10
    eventually(has_all)
    text = texts[-1]
    ours = {re.sub("_(sum|count|bucket)$", "", name) for name in shown}
    assert set(re.findall(r"^# TYPE (ganvas_\w+) ", text, re.MULTILINE)) - ours == set()
    # What the panels of keys and quotas select is what the gateway says.
    assert re.search(r'^envoy_ganvas_gateway_requests\{[^}]*caller="studio"', text, re.MULTILINE)
    remaining = "envoy_cluster_circuit_breakers_default_remaining_rq"
    assert re.search(rf'^{remaining}\{{[^}}]*envoy_cluster_name="key-studio"', text, re.MULTILINE)


def test_part_that_was_killed_leaves_a_gap_and_is_counted(serve: Serve, key: tuple[str, Path]) -> None:
    os.kill(serve.ready["service_pid"], signal.SIGKILL)
    end = time.monotonic() + WAIT_S
    counted = re.compile(r'^ganvas_restarts_total\{part="service"\} [1-9]', re.MULTILINE)
    while not counted.search(text := read(serve)) or "nv_inference_request_success" not in text:
        assert time.monotonic() < end
    with Sampler(serve.ready["service"], api_key=key[0], direct=False) as sampler:
        assert len(sampler.sample("tiny-gan", range(4), timeout_s=WAIT_S)) == 4
    while "ganvas_requests_total" not in read(serve):
        assert time.monotonic() < end

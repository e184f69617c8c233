"""`python -m tests.support.agreement REPOSITORY NUM_REQUESTS [SEED]`: random requests, right and wrong, by every way.

Triton alone (Sampler.direct), Triton through the gateway (Sampler) and, for one request in ten, the sampling service
must give the same images, posteriors and errors.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.local_server import LocalServer, local_server
from ganvas_client import GanvasError, ModelInfo, Posterior, Sampler

__all__ = ["Request", "compare", "random_request"]

METHODS = ("sample", "sample_stream", "decode", "encode", "walk")
LONGEST = 60


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of a Sampler."""

    method: str
    model: str
    what: Any
    """Seeds, latents or images."""
    arguments: dict[str, Any]

    def answer(self, sampler: Sampler) -> Any:
        """What comes of it, in a form to compare."""
        try:
            result = getattr(sampler, self.method)(self.model, self.what, **self.arguments)
            if isinstance(result, Posterior):
                return result.version, result.digest, result.mean.tobytes(), result.logvar.tobytes()
            return sorted(result, key=lambda image: image.index)
        except GanvasError as error:
            # Under ./ganvas serve Triton lists its models to nobody; and the client splits what the service limits.
            text = re.sub(r"(model 'nothing' is unknown); there is: .*", r"\1.", str(error))
            return type(error).__name__, re.sub(r"must be within \[1, \d+\] (\w+); got 0", r"must be some \1", text)


def random_request(rng: np.random.Generator, models: list[ModelInfo]) -> Request:
    """Of any method and model; about one in six is wrong somewhere."""
    info = models[rng.integers(len(models))]
    method = str(rng.choice(METHODS))
    count = int(rng.integers(1, LONGEST if rng.random() < 0.2 else 12))
    seeds = rng.integers(0, 2**64, count, np.uint64)
    num_labels = len(info.labels)
    arguments: dict[str, Any] = {}
    if method in ("sample", "sample_stream", "walk") and rng.random() < 0.8:
        arguments["truncation"] = float(np.float32(rng.uniform(0, 1.5)))
    if method == "walk":
        if num_labels and rng.random() < 0.7:
            arguments["label"] = int(rng.integers(num_labels))
        arguments |= {"steps": int(rng.integers(1, 9)), "loop": bool(rng.random() < 0.3)}
        what: Any = [*seeds[:5].tolist(), 1]
    elif method == "encode":
        what = rng.integers(0, 256, (count, info.height, info.width, info.channels), np.uint8)
    else:
        if num_labels and (method == "decode" or rng.random() < 0.7):
            one = int(rng.integers(num_labels))
            arguments["labels"] = _one_or_each(rng, one, rng.integers(0, num_labels, count).tolist())
        what = info.latents(seeds) if method == "decode" else _one_or_each(rng, range(count), seeds)
    request = Request(method=method, model=info.name, what=what, arguments=arguments)
    return _spoiled(rng, request, num_labels) if rng.random() < 1 / 6 else request


def compare(request: Request, *ways: Sampler) -> str:
    """Make a request by every way; gives what came: the method, or the name of the error.

    Raises:
        AssertionError: they differ.
    """
    first, *others = (request.answer(way) for way in ways)
    for other in others:
        assert other == first, f"{request}: {first!r:.200} and {other!r:.200}"
    return str(first[0]) if isinstance(first[0], str) and first[0].endswith("Error") else request.method


def _one_or_each(rng: np.random.Generator, one: Any, each: Any) -> Any:
    return one if rng.random() < 0.4 else each


def _spoiled(rng: np.random.Generator, request: Request, num_labels: int) -> Request:
    """The request with a mistake."""
    mistakes: list[Callable[[], dict[str, Any]]] = [
        lambda: {"model": "nothing"},
        lambda: {"arguments": {**request.arguments, "digest": "0" * 64}},
        lambda: {"arguments": {**request.arguments, "version": 99}},
        lambda: {"what": []},
    ]
    if request.method in ("sample", "sample_stream", "walk"):
        mistakes.append(lambda: {"arguments": {**request.arguments, "truncation": float(rng.uniform(1.6, 9))}})
    if request.method in ("sample", "sample_stream", "decode"):
        label = int(rng.choice([-1, num_labels, 2**40]))
        mistakes.append(lambda: {"arguments": {**request.arguments, "labels": label}})
        mistakes.append(lambda: {"arguments": {**request.arguments, "labels": [0] * 999}})
    return Request(**{**vars(request), **mistakes[rng.integers(len(mistakes))]()})


def check(served: LocalServer, num_requests: int, seed: int) -> Counter[str]:
    """What came of so many requests, by kind."""
    rng = np.random.default_rng(seed)
    kinds: Counter[str] = Counter()
    with (
        Sampler.direct(served.triton_grpc) as alone,
        Sampler(served.service) as short,
        Sampler(served.service, direct=False) as service,
    ):
        models = [short.model(info.name) for info in short.models()]
        for index in range(num_requests):
            ways = (alone, short, service) if index % 10 == 0 else (alone, short)
            kinds[compare(random_request(rng, models), *ways)] += 1
        assert short._direct, "Triton did not answer through the gateway"
    return kinds


def main(repository: str, num_requests: str, seed: str = "0") -> None:
    start_s = time.monotonic()
    with local_server(Path(repository)) as served:
        kinds = check(served, int(num_requests), int(seed))
    print(f"{kinds.total()} requests, the same by every way, {time.monotonic() - start_s:.0f} s:")
    for kind, count in sorted(kinds.items()):
        print(f"  {kind:24} {count}")


if __name__ == "__main__":
    main(*sys.argv[1:])

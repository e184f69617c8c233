"""Triton, asked directly, about values that a model does not take: an error, as from the service, no wrong image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as kserve
from numpy.typing import NDArray

from serving.triton.process import TritonProcess
from tests.support.triton import client, infer, infer_together

pytestmark = pytest.mark.triton


def feeds_of(seed: int, *, truncation: float = 0.9, label: int = 3, rows: int = 1) -> dict[str, NDArray[Any]]:
    """Rows of consecutive seeds; the last one has this truncation and label."""
    feeds: dict[str, NDArray[Any]] = {
        "seed": np.arange(seed, seed + rows, dtype=np.uint64)[:, None],
        "truncation": np.full((rows, 1), 0.9, np.float32),
        "label": np.full((rows, 1), 3, np.int64),
    }
    feeds["truncation"][-1], feeds["label"][-1] = truncation, label
    return feeds


BAD: list[tuple[dict[str, Any], str]] = [
    ({"truncation": np.nan}, r"truncation must be within \[0, 1\.5\]; got nan\."),
    ({"truncation": -0.5}, r"truncation must be within \[0, 1\.5\]; got -0\.5\."),
    ({"truncation": 1.51}, r"truncation must be within \[0, 1\.5\]; got 1\.51\."),
    ({"truncation": np.inf}, r"truncation must be within \[0, 1\.5\]; got inf\."),
    ({"label": -1}, r"label must be within \[0, 9\]; got -1\."),
    ({"label": 10}, r"label must be within \[0, 9\]; got 10\."),
]


@pytest.mark.parametrize(("value", "problem"), BAD, ids=[str(value) for value, _ in BAD])
@pytest.mark.parametrize("rows", [1, 4])
def test_triton_refuses_a_bad_value(triton: TritonProcess, value: dict[str, Any], problem: str, rows: int) -> None:
    with client(triton) as caller:
        with pytest.raises(kserve.InferenceServerException, match=problem) as caught:
            infer(caller, "tiny-gan", feeds_of(0, rows=rows, **value))
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("feeds", "problem"),
    [
        ({"latent": np.full((1, 16), np.nan, np.float32), "label": np.zeros((1, 1), np.int64)}, "latent must be fin"),
        ({"latent": np.zeros((1, 16), np.float32), "label": np.full((1, 1), -1)}, "label must be within"),
    ],
)
def test_triton_refuses_a_bad_value_of_decode(
    triton: TritonProcess, feeds: dict[str, NDArray[Any]], problem: str
) -> None:
    with client(triton) as caller, pytest.raises(kserve.InferenceServerException, match=problem) as caught:
        infer(caller, "tiny-gan-decode", feeds)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_batch_mates_of_a_refused_request_get_their_images(triton: TritonProcess, model_repository: Path) -> None:
    values = [BAD[seed % len(BAD)][0] if seed % 5 == 2 else {} for seed in range(60)]
    calls = [feeds_of(seed, rows=1 + seed % 3, **value) for seed, value in enumerate(values)]
    session = onnxruntime.InferenceSession(model_repository / "tiny-gan" / "1" / "model.onnx")
    for value, feeds, result in zip(values, calls, infer_together(triton, "tiny-gan", calls), strict=True):
        if value:
            assert isinstance(result, kserve.InferenceServerException)
            assert result.status() == "StatusCode.INVALID_ARGUMENT"
        else:
            assert not isinstance(result, Exception)
            assert np.array_equal(result["image"], session.run(None, feeds)[0])

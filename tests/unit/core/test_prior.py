"""A mixture as the distribution of latents, by the document's vectors and by statistics."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganvas_core import noise
from ganvas_core.certificate import Certificate, CertificateError
from ganvas_core.prior import Mixture
from tests.support.certificates import certificate

RNG_DOC = Path(__file__).parents[3] / "docs" / "rng.md"
VECTOR_ROW = re.compile(r"\| `0x([0-9a-f]{16})` \| ([\d.]+) \| (\d) \| `0x([0-9a-f]{8})` \| `0x([0-9a-f]{8})` \|")
RNG = np.random.default_rng(0)
MEANS = np.array([[-3.0, 0.0, 1.0], [2.0, 2.0, 2.0], [0.0, -4.0, 0.0]])
FACTORS = np.stack([np.tril(RNG.normal(size=(3, 3)) * 0.3) + np.eye(3) * 0.2 for _ in range(3)])
MIXTURE = Mixture.of([0.2, 0.5, 0.3], MEANS, FACTORS)


def certificate_record(**fields: Any) -> dict[str, Any]:
    """A sampler's certificate as JSON has it."""
    record: dict[str, Any] = json.loads(certificate("pets", "sample").to_json()) | fields
    return record


def document_mixture() -> Mixture:
    """The one that docs/rng.md has vectors for."""
    means, factors = (
        np.array([[-2.0, 1.0], [2.0, 0.5]]),
        np.array([[[0.5, 0.0], [0.25, 1.0]], [[1.0, 0.0], [0.0, 0.1]]]),
    )
    return Mixture.of([0.25, 0.75], means, factors)


def test_prior_gives_the_vectors_of_the_document() -> None:
    rows = VECTOR_ROW.findall(RNG_DOC.read_text())
    assert len(rows) >= 6
    for seed, psi, component, *latent in rows:
        (value,) = noise.truncated_latents([int(seed, 16)], float(psi), 2, document_mixture())
        assert [f"{number:08x}" for number in value.view(np.uint32)] == latent
        bits = noise.bits([int(seed, 16)], 3)[0, 2]
        assert int(bits >= document_mixture().thresholds[0]) == int(component)


def test_prior_draws_each_component_as_often_as_its_weight_and_with_its_moments() -> None:
    seeds = np.arange(60_000, dtype=np.uint64)
    z = noise.truncated_latents(seeds, 1.0, 3, MIXTURE).astype(np.float64)
    nearest = np.linalg.norm(z[:, None] - MEANS, axis=2).argmin(1)
    bits = noise.bits(seeds, 4)[:, 3]
    component = (bits[:, None] >= np.array(MIXTURE.thresholds)).sum(1)
    assert (nearest == component).mean() > 0.98
    assert np.bincount(component) / len(seeds) == pytest.approx([0.2, 0.5, 0.3], abs=0.01)
    assert pytest.approx([0.2, 0.5, 0.3], abs=1e-9) == MIXTURE.weights
    for k in range(3):
        mine = z[component == k]
        np.testing.assert_allclose(mine.mean(0), MEANS[k], atol=0.03)
        np.testing.assert_allclose(np.cov(mine.T), FACTORS[k] @ FACTORS[k].T, atol=0.03)


def test_prior_draws_each_labels_components_as_often_as_its_own_weights() -> None:
    weights = [[1.0, 0.0, 0.0], [0.0, 0.25, 0.75]]
    prior = Mixture.of([0.5, 0.125, 0.375], MEANS, FACTORS, weights)
    assert prior.num_labels == 2
    seeds, labels = np.arange(40_000, dtype=np.uint64), np.arange(40_000) % 2
    z = noise.truncated_latents(seeds, 0.0, 3, prior, labels)
    component = np.linalg.norm(z[:, None] - MEANS, axis=2).argmin(1)
    for label in range(2):
        shares = np.bincount(component[labels == label], minlength=3) / 20_000
        assert shares == pytest.approx(weights[label], abs=0.01)


@pytest.mark.parametrize("labels", [None, [0, 2], [-1, 0]])
def test_prior_of_labels_rejects_labels_that_are_none_of_them(labels: list[int] | None) -> None:
    prior = Mixture.of([0.2, 0.5, 0.3], MEANS, FACTORS, [[1, 0, 0], [0, 1, 1]])
    with pytest.raises(ValueError, match=r"labels within \[0, 1\] are needed"):
        noise.truncated_latents([1, 2], 1.0, 3, prior, labels)


def test_certificate_holds_a_row_of_thresholds_for_each_label() -> None:
    rows = [[5, 9], [0, 2**32 - 1]]
    record = certificate_record(latent_shape=[3], labels=["cat", "dog"], prior=prior_record(label_thresholds=rows))
    parsed = Certificate.from_json(json.dumps(record))
    assert parsed.prior is not None
    assert parsed.prior.label_thresholds == ((5, 9), (0, 2**32 - 1))
    assert Certificate.from_json(parsed.to_json()) == parsed
    assert parsed.latents([4, 5], 1.0, [0, 1]).shape == (2, 3)
    with pytest.raises(CertificateError, match="label_thresholds must be a row for each label; got 2"):
        Certificate.from_json(json.dumps(record | {"labels": ["cat"]}))


def test_truncation_moves_a_latent_towards_the_mean_of_its_component() -> None:
    seeds = np.arange(50, dtype=np.uint64)
    full, half, none = (noise.truncated_latents(seeds, psi, 3, MIXTURE) for psi in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half - none, 0.5 * (full - none), atol=1e-6)
    assert all(any(np.array_equal(row, mean.astype(np.float32)) for mean in MEANS) for row in none)


def test_latents_of_a_prior_do_not_depend_on_their_batch() -> None:
    seeds = np.arange(40, dtype=np.uint64)
    psi = np.linspace(0, 1.5, 40, dtype=np.float32)
    together = noise.truncated_latents(seeds, psi, 3, MIXTURE)
    for i in range(40):
        assert together[i].tobytes() == noise.truncated_latents(seeds[[i]], psi[[i]], 3, MIXTURE).tobytes()


def test_a_standard_normal_prior_leaves_the_noise_as_it_is() -> None:
    normal = Mixture.of([1.0], np.zeros((1, 5)), np.eye(5)[None])
    assert np.array_equal(noise.truncated_latents([1, 2], 1.0, 5, normal), noise.latents([1, 2], 5))


def test_certificate_with_a_prior_survives_json() -> None:
    record = certificate_record(latent_shape=[3], prior=prior_record())
    parsed = Certificate.from_json(json.dumps(record))
    assert parsed.prior == MIXTURE
    assert Certificate.from_json(parsed.to_json()) == parsed


def prior_record(**changes: Any) -> dict[str, Any]:
    return {"kind": MIXTURE.kind, "thresholds": list(MIXTURE.thresholds), "table": MIXTURE.table} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": [5, 3]}, "ascending"),
        ({"thresholds": [1, 2**32]}, r"within \[0, 2\^32\)"),
        ({"thresholds": list(range(64))}, "1 to 64 components"),
        ({"label_thresholds": [[1, 2], [3]]}, "label_thresholds must hold 2 numbers for each label; got 1"),
        ({"label_thresholds": [[2, 1]]}, "label_thresholds must be ascending"),
        ({"table": "!"}, "not base64"),
        ({"table": base64.b64encode(bytes(8)).decode()}, "must hold 3 tables"),
        ({"table": base64.b64encode(np.full(36, np.nan, "<f4").tobytes()).decode()}, "not finite"),
        ({"kind": "flow"}, "kind"),
    ],
)
def test_certificate_rejects_a_prior_that_is_none(changes: dict[str, Any], message: str) -> None:
    record = certificate_record(latent_shape=[3], prior=prior_record(**changes))
    with pytest.raises(CertificateError, match=message):
        Certificate.from_json(json.dumps(record))


def test_certificate_rejects_a_prior_of_another_number_of_dimensions() -> None:
    with pytest.raises(CertificateError, match="latent_shape must be as prior"):
        Certificate.from_json(json.dumps(certificate_record(latent_shape=[4], prior=prior_record())))
    with pytest.raises(ValueError, match=r"latent_shape must be \[3\]"):
        noise.truncated_latents([1], 1.0, 4, MIXTURE)

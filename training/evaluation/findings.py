"""What stands out in an evaluation, in words: each finding names the metric that saw it.

The limits are set where generators made bad on purpose lie clearly on one side and real images on the other
(tests/unit/training/evaluation/test_findings.py), not where a good generator ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.evaluation.result import Evaluation, Finding

__all__ = ["findings_of"]

MEMORIZED_SHARE, MEMORIZED_STRICT_SHARE = 0.25, 0.08
MISSING_CLASS = 0.25
"""A class with less than this part of its share in the data is missing."""
LOST_COVERAGE, LOST_RECALL = 0.7, 0.5
"""Of what training images reach."""
LOST_PRECISION, LOST_DENSITY = 0.6, 0.65
BLURRED, NOISY = 0.65, 1.6
FAR_RATIO = 6.0
REPEATED_SHARE = 0.1
LOST_AGREEMENT = 0.1
WEAK_JUDGE = 0.8
FEW_HELD_OUT = 200
ALL_KNOWING = 0.95
ACTIVE_SHARE = 0.1


def findings_of(found: Evaluation, curves: Sequence[Mapping[str, Any]] = ()) -> list[Finding]:
    """Problems first, then notes on how far the figures can be trusted."""
    findings = [
        *_memorised(found),
        *_collapsed(found),
        *_implausible(found),
        *_labels(found),
        *_autoencoder(found),
        *_training(found, curves),
        *_trust(found),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "problem")


def _problem(title: str, evidence: str, metric: str) -> Finding:
    return Finding(severity="problem", title=title, evidence=evidence, metric=metric)


def _note(title: str, evidence: str, metric: str) -> Finding:
    return Finding(severity="note", title=title, evidence=evidence, metric=metric)


def _memorised(found: Evaluation) -> list[Finding]:
    memorized = found.memorization
    if memorized.share <= MEMORIZED_SHARE and memorized.strict_share <= MEMORIZED_STRICT_SHARE:
        return []
    text = (
        f"{memorized.share:.0%} of samples lie nearer to a training image than all but 5 % of held-out images do, and "
        f"{memorized.strict_share:.0%} nearer than three quarters of that (held-out images: "
        f"{memorized.real_strict_share:.1%})."
    )
    to_train = found.samples.frechet_to_train
    if to_train is not None and to_train < 0.5 * found.real.frechet:
        text += f" Their Fréchet distance to the training images is {to_train:.2f}, below that of any unseen images."
    return [_problem("memorised", text, "nearest training neighbours")]


def _collapsed(found: Evaluation) -> list[Finding]:
    findings, classes = [], found.classes
    if classes is not None:
        missing = [
            (name, real, samples)
            for name, real, samples in zip(classes.names, classes.real, classes.samples, strict=True)
            if real > 0 and samples < MISSING_CLASS * real
        ]
        if missing:
            names = ", ".join(name for name, _, _ in missing[:8]) + ("" if len(missing) <= 8 else ", …")
            shares = "; ".join(
                f"{name}: {samples:.1%} of samples, {real:.1%} of the data" for name, real, samples in missing[:8]
            )
            kind = "class" if len(missing) == 1 else "classes"
            findings.append(_problem(f"collapsed: {kind} {names} missing", f"{shares}.", "class histogram"))
    if found.repeated_share > REPEATED_SHARE:
        text = (
            f"{found.repeated_share:.0%} of {found.num_samples} samples have a near copy among the others: about "
            f"{found.num_distinct} distinct images."
        )
        findings.append(_problem(f"collapsed: about {found.num_distinct} distinct images", text, "repeated samples"))
    manifold, real = found.samples.manifold, found.real.manifold
    if manifold.coverage < LOST_COVERAGE * real.coverage or manifold.recall < LOST_RECALL * real.recall:
        text = (
            f"coverage {manifold.coverage:.2f} and recall {manifold.recall:.2f}, where training images have "
            f"{real.coverage:.2f} and {real.recall:.2f}: a part of the data is not reached."
        )
        findings.append(_problem("little variety", text, "coverage and recall"))
    return findings


def _implausible(found: Evaluation) -> list[Finding]:
    findings = []
    manifold, real = found.samples.manifold, found.real.manifold
    if found.relative_detail < BLURRED:
        text = f"samples have {found.relative_detail:.2f} times the fine detail of held-out images."
        findings.append(_problem("blurred", text, "fine detail"))
    if found.relative_detail > NOISY:
        text = f"samples have {found.relative_detail:.2f} times the fine detail of held-out images."
        findings.append(_problem("noisy", text, "fine detail"))
    if manifold.precision < LOST_PRECISION * real.precision or manifold.density < LOST_DENSITY * real.density:
        text = (
            f"precision {manifold.precision:.2f} and density {manifold.density:.2f}, where training images have "
            f"{real.precision:.2f} and {real.density:.2f}."
        )
        if found.synthetic_accuracy and found.real_accuracy and found.synthetic_accuracy > 0.9 * found.real_accuracy:
            text += (
                f" A classifier trained on them still reaches {found.synthetic_accuracy:.3f}: they carry the classes "
                "without looking real."
            )
        findings.append(_problem("implausible samples", text, "precision and density"))
    if found.samples.ratio > FAR_RATIO:
        text = f"the Fréchet distance by {found.features} is {found.samples.ratio:.1f} times its floor"
        if found.untrained is not None:
            text += f" (untrained: {found.untrained.ratio:.1f})"
        findings.append(_problem("far from the data", text + ".", "Fréchet distance"))
    return findings


def _labels(found: Evaluation) -> list[Finding]:
    classes = found.classes
    if classes is None or classes.agreement is None or classes.agreement_by_class is None:
        return []
    if classes.agreement >= classes.judge_accuracy - LOST_AGREEMENT:
        return []
    worst = sorted(zip(classes.agreement_by_class, classes.names, strict=True))[:3]
    text = (
        f"the judge takes {classes.agreement:.0%} of samples for their label (held-out images: "
        f"{classes.judge_accuracy:.0%}); worst: " + ", ".join(f"{name} {share:.0%}" for share, name in worst) + "."
    )
    return [_problem("labels are not obeyed", text, "class agreement")]


def _autoencoder(found: Evaluation) -> list[Finding]:
    vae = found.reconstruction
    if vae is None or vae.num_active >= max(2, ACTIVE_SHARE * len(vae.kl_nats)):
        return []
    text = f"{vae.num_active} of {len(vae.kl_nats)} latent dimensions carry more than 0.01 nats: lower beta."
    return [_problem("posterior collapsed", text, "KL per dimension")]


def _training(found: Evaluation, curves: Sequence[Mapping[str, Any]]) -> list[Finding]:
    findings = []
    events = [line for line in curves if line.get("event") == "rollback"]
    if events:
        text = "; ".join(f"at {line['kimg']:.1f} kimg: {line.get('reason', '')}" for line in events)
        findings.append(_note("training diverged and was taken back", text, "training curves"))
    accuracy = found.discriminator_accuracy
    if accuracy is not None and accuracy > ALL_KNOWING:
        text = (
            f"it told real from generated in {accuracy:.0%} of cases over the last tenth of training: it knows the "
            "training images by heart, or the generator lags."
        )
        findings.append(_note("the discriminator knows all", text, "discriminator accuracy"))
    return findings


def _trust(found: Evaluation) -> list[Finding]:
    findings = []
    if found.data.num_held_out < FEW_HELD_OUT:
        text = (
            f"{found.data.num_held_out} images are held out: distances and shares are rough, and the Fréchet distance "
            "favors samples of too little variety. Go by the kernel distance and the images."
        )
        findings.append(_note("few held-out images", text, "held-out images"))
    if found.classes is not None and found.classes.judge_accuracy < WEAK_JUDGE:
        text = f"it is right on {found.classes.judge_accuracy:.0%} of held-out images: read class figures with care."
        findings.append(_note("a weak judge of classes", text, "class judge"))
    return findings

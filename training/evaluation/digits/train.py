"""Trains the digit classifier: `python -m training.evaluation.digits.train [OUT.safetensors]`, a minute on one core.

It sees the training writers' images, shifted, turned, scaled and sheared a little, and no held-out writer. But the
recipe was chosen with the held-out writers in view: the number of features, 16, by how training images measure against
held-out ones. So what training images get is a kind estimate of what other real images would, and their figures stand
beside those of every model.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.digits import split_digits
from training.evaluation.digits.network import IMAGE_SIZE, WEIGHTS, DigitClassifier

__all__ = ["train_classifier"]

NUM_EPOCHS = 40
BATCH_SIZE = 64
LEARNING_RATE = 2e-3


def train_classifier(images: Tensor, labels: Tensor, *, num_epochs: int = NUM_EPOCHS, seed: int = 0) -> DigitClassifier:
    """A classifier of these images. images: [N, 1, H, W] uint8.  labels: [N] int64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = DigitClassifier()
        num_steps = num_epochs * len(images) // BATCH_SIZE
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        loss = nn.CrossEntropyLoss(label_smoothing=0.1)
        for _ in range(num_steps):
            rows = torch.randint(len(images), (BATCH_SIZE,))
            optimizer.zero_grad()
            loss(classifier(_jittered(images[rows] / 255.0)), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    classifier.eval().requires_grad_(False)
    _normalize(classifier, images)
    return classifier


@torch.no_grad()
def _normalize(classifier: DigitClassifier, images: Tensor) -> None:
    """Give the features a mean square of 1 over these images, and the same logits as before."""
    scale = float(classifier.features(images / 255.0).square().mean().sqrt())
    for parameter in classifier.to_features.parameters():
        parameter.div_(scale)
    classifier.to_logits.weight.mul_(scale)


def _jittered(images: Tensor) -> Tensor:
    """Turned by up to 10 degrees, sheared by 0.15, scaled by 10 % and shifted by two pixels of 32."""
    amount = torch.rand(len(images), 5) * 2 - 1
    angle, shear = amount[:, 0] * math.radians(10), amount[:, 1] * 0.15
    scale = 1 + amount[:, 2] * 0.1
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = amount[:, 3:] * (4 / IMAGE_SIZE)
    matrix = torch.stack([cos, shear * cos - sin, shift[:, 0], sin, shear * sin + cos, shift[:, 1]], dim=1)
    grid = functional.affine_grid(matrix.reshape(-1, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS
    split = split_digits(IMAGE_SIZE)
    train, held_out = split.train, split.held_out
    assert train.labels is not None
    assert held_out.labels is not None
    classifier = train_classifier(train.images, train.labels)
    for name, part in (("training writers", train), ("held-out writers", held_out)):
        right = classifier(part.images / 255.0).argmax(1) == part.labels
        print(f"{name}: {float(right.float().mean()):.4f} of {len(part)}")
    safetensors.torch.save_file(classifier.state_dict(), out)
    print(out)


if __name__ == "__main__":
    main()

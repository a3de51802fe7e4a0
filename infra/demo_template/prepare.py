"""The frozen part of the study: the data, the size of a run, and how a model is scored.

The data are the 1797 handwritten digits that scikit-learn ships (8x8 pixels of 0 to 16, ten
classes; a part of UCI's "Optical Recognition of Handwritten Digits"). Candidates change `train.py`;
this file is the same for all of them.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

STEPS = 2500
"""Optimiser steps in a run, unless its time is up first."""
VALIDATION_SHARE = 0.3


def load_data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images and labels, then validation images and labels.

    Images are float32 of shape (n, 64), 0 to 16; labels are int64 of shape (n,). The split is the
    same in every run, with the same share of each digit on both sides.
    """
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    training, validation = [], []
    for digit in range(10):
        members = order[labels[order] == digit]
        cut = round(len(members) * VALIDATION_SHARE)
        validation.append(members[:cut])
        training.append(members[cut:])
    train, held_out = torch.cat(training), torch.cat(validation)
    return images[train], labels[train], images[held_out], labels[held_out]


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy in nats and the accuracy of a model that takes raw pixels."""
    model.eval()
    logits = model(images)
    loss = nn.functional.cross_entropy(logits, labels)
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return loss.item(), accuracy.item()

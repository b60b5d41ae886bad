"""A small convolutional classifier of the digits, used to name the digit in a restored image.

``python -m real_models.images.classifier`` (extra ``fit``, a few minutes on one core) trains it on the 4500 training
images with the deformations that the flow is trained on, and writes the weights and a record with its accuracy on the
500 held-out images. It was trained on none of these, nor on any restored image.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from analysis import checks, intervals
from real_models import checkpoint, options
from real_models.images import WEIGHTS, data
from real_models.training import Plan, Trainer

NAME, CLASSES = "classifier", 10
STEPS, BATCH, LEARNING_RATE = 3000, 64, 2e-3
SMOOTHING = 0.05  # of the labels, so that the loss does not reward certainty


class Classifier(nn.Module):
    """Ten logits (B, 10) of flat images x (B, 784); four convolutions after the first, averaged over places."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.config = {"width": checks.count("width", width)}
        sizes = (1, width, 2 * width, 2 * width, 4 * width, 4 * width)
        parts: list[nn.Module] = []
        for i, (inside, outside) in enumerate(pairwise(sizes)):
            stride = 2 if outside == 2 * inside and i else 1
            parts += [nn.Conv2d(inside, outside, 3, stride, 1), nn.GroupNorm(4, outside), nn.SiLU()]
        self.features, self.last = nn.Sequential(*parts), nn.Linear(sizes[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of flat images x (B, 784).

        Returns
        -------
        Tensor
            (B, 10).

        Raises
        ------
        ValueError
            For images of another size.
        """
        if x.ndim != 2 or x.shape[1] != data.SIDE**2:
            raise ValueError(f"x must have shape (B, {data.SIDE**2}), got {tuple(x.shape)}")
        return self.last(self.features(x.unflatten(1, (1, data.SIDE, data.SIDE))).mean((2, 3)))


def classifier(device: str = "cpu") -> Classifier:
    """Return the committed classifier, float32, its weights fixed."""
    network = checkpoint.load(WEIGHTS / f"{NAME}.safetensors", Classifier)
    return network.to(device).eval().requires_grad_(False)


@torch.no_grad()
def labels_of(network: nn.Module, x: Tensor) -> Tensor:
    """Return the most likely label (B,) of each image x (B, 784), on the network's device."""
    return network(x.to(next(network.parameters()))).argmax(1)


def record(trainer: Trainer, batch: int) -> dict[str, Any]:
    """Return training metadata and the accuracy of the averaged weights on held-out images."""
    images, labels = data.held_out()
    right = (labels_of(trainer.average, images).cpu() == labels).double().numpy()
    about = trainer.record() | {"data": "mnist", "split": {"train": 4500, "held_out": len(images)}, "batch": batch}
    return about | {"label_smoothing": SMOOTHING} | {"held_out_accuracy": asdict(intervals.interval(right))}


@options.in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the averaged weights with their record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=options.count, default=STEPS)
    parser.add_argument("--device", type=options.device, default="cpu")
    parser.add_argument(
        "--out", type=options.folder, default=WEIGHTS, help="of weights and state (default: the shipped)"
    )
    asked = parser.parse_args(arguments)
    plan = Plan(asked.steps, LEARNING_RATE, ema=0.995, device=asked.device)
    torch.manual_seed(plan.seed)
    images, labels = data.training()

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        logits = module(data.augment(images[chosen], generator).to(plan.device))
        return functional.cross_entropy(logits, labels[chosen].to(plan.device), label_smoothing=SMOOTHING)

    network = Classifier()
    trainer = Trainer(network, loss, plan, asked.out / f"{NAME}.state.safetensors")
    trainer.run()
    about = record(trainer, BATCH)
    trainer.write(asked.out, NAME, network.config, about)
    print(f"held-out accuracy {about['held_out_accuracy']}")


if __name__ == "__main__":
    main()

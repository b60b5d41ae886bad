"""Train the U-Net: ``python -m real_models.images.train mnist --steps 8000`` (extra ``fit``).

``mnist`` learns real digits, ``mixture`` samples of the Gaussian mixture fitted to them
(``toy_models.problems.mnist``), whose ideal gradients are certified. The flow-matching loss of the CondOT path (Lipman
et al. 2023, arXiv 2210.02747) is |u(x_t, t) - (x_1 - x_0)|^2 per pixel. The same command resumes a stopped run bit for
bit; at the end it writes the averaged weights and their training metadata.

``--focus`` draws that share of the times from a logit-normal distribution (Esser et al. 2024, arXiv 2403.03206) about t
= 0.3. With the first weights, solves from states X_t of held-out digits ended in images that the classifier names with
confidence only as often as samples from noise for t up to 0.2, and nearly as often as the digits themselves from t =
0.4 on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from analysis import checks, intervals
from real_models import checkpoint, options
from real_models.images import WEIGHTS, data
from real_models.images.unet import UNet
from real_models.training import Plan, Trainer
from toy_models.problems import mnist

Draw = Callable[[int, torch.Generator], Tensor]
DRAWS = 20  # times and noises per held-out image
LOGIT_MEAN, LOGIT_SCALE = -0.8, 1.0  # of the times that ``--focus`` draws


def digits(warped: float) -> Draw:
    """Return a function that draws training digits (n, 784), a share ``warped`` of them deformed."""
    images, _ = data.training()

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return data.augment(images[torch.randint(len(images), (n,), generator=generator)], generator, warped)

    return draw


def samples(_: float = 0.0) -> Draw:
    """Return a function that draws samples (n, 784) of the fitted mixture, never deformed."""
    mixture = mnist.mixture()
    return lambda n, generator: mixture.sample(n, generator).float()


SOURCES: dict[str, Callable[[float], Draw]] = {"mnist": digits, "mixture": samples}


def times(n: int, generator: torch.Generator, focus: float = 0.0) -> Tensor:
    """Return times (n,) spread evenly over [0, 1], a share ``focus`` of them moved to a logit-normal distribution."""
    t = (torch.rand(n, generator=generator) + torch.arange(n)) / n
    if not checks.share("focus", focus):
        return t
    moved = torch.sigmoid(LOGIT_MEAN + LOGIT_SCALE * torch.special.ndtri(t))
    return torch.where(torch.rand(n, generator=generator) < focus, moved, t)


def residuals(network: nn.Module, x: Tensor, generator: torch.Generator, focus: float = 0.0) -> Tensor:
    """Return the flow-matching loss (B,) of each image x (B, 784), at one noise and one of ``times`` each."""
    device = next(network.parameters()).device
    t = times(len(x), generator, focus)
    noise = torch.randn(x.shape, generator=generator)
    x1, x0, t = (part.to(device) for part in (x, noise, t))
    state = (x0 + t[:, None] * (x1 - x0)).unflatten(1, (1, data.SIDE, data.SIDE))
    velocity = network(state.contiguous(memory_format=torch.channels_last), t)
    return (velocity.flatten(1).float() - (x1 - x0)).square().mean(1)


@torch.no_grad()
def held_out_loss(network: nn.Module, x: Tensor, draws: int = DRAWS, seed: int = 0) -> Tensor:
    """Return the loss (B,) of each held-out image x (B, 784), averaged over ``draws`` times and noises."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(draws):
        order = torch.randperm(len(x), generator=generator)  # or every image would always see the same part of time
        losses.append(torch.cat([residuals(network, part, generator) for part in x[order].split(100)])[order.argsort()])
    return torch.stack(losses).mean(0).cpu()


def record(name: str, trainer: Trainer, batch: int, draws: int) -> dict[str, Any]:
    """Return training metadata and the loss of the averaged weights on held-out images of the same source."""
    unseen = data.held_out()[0]
    if name == "mixture":
        unseen = samples()(len(unseen), torch.Generator().manual_seed(trainer.plan.seed + 1))
    loss = held_out_loss(trainer.average, unseen, draws).double().numpy()
    about = trainer.record() | {"data": name, "split": {"train": 4500, "held_out": 500}, "batch": batch}
    about |= {"steps_done": trainer.done, "threads": torch.get_num_threads()}
    return about | {"held_out_loss": asdict(intervals.interval(loss)), "draws": draws}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=SOURCES)
    parser.add_argument("--steps", type=options.count, default=8000)
    parser.add_argument("--batch", type=options.count, default=64)
    parser.add_argument("--learning-rate", type=options.positive, default=1e-3)
    parser.add_argument("--focus", type=options.share, default=0.0, help="share of the times that lie about t = 0.3")
    parser.add_argument(
        "--warped", type=options.share, default=data.WARPED, help="share of the digits that are deformed"
    )
    parser.add_argument("--device", type=options.device, default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="compute the loss in bfloat16 (autocast)")
    parser.add_argument("--seed", type=options.seed, default=0)
    parser.add_argument("--every", type=options.count, default=250, help="steps between two saves of the state")
    parser.add_argument("--draws", type=options.count, default=DRAWS, help="times and noises per held-out image")
    parser.add_argument("--start", type=options.file, help="weights to start from, instead of random ones")
    parser.add_argument(
        "--out", type=options.folder, default=WEIGHTS, help="of weights and state (default: the shipped)"
    )
    return parser.parse_args(arguments)


@options.in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the averaged weights with their record."""
    asked = parse(arguments)
    torch.manual_seed(asked.seed)
    network = checkpoint.load(asked.start, UNet) if asked.start else UNet()
    plan = Plan(asked.steps, asked.learning_rate, seed=asked.seed, device=asked.device, bfloat16=asked.bfloat16)
    draw = SOURCES[asked.source](asked.warped)

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        return residuals(module, draw(asked.batch, generator), generator, asked.focus).mean()

    module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(module, loss, plan, asked.out / f"{asked.source}.state.safetensors")
    trainer.run(asked.every)
    about = record(asked.source, trainer, asked.batch, asked.draws) | {
        "start": checkpoint.read(asked.start)[1]["record"] if asked.start else None,
        "focus": asked.focus,
        "warped": asked.warped if asked.source == "mnist" else 0.0,
    }
    trainer.write(asked.out, asked.source, network.config, about)
    print(f"held-out loss {about['held_out_loss']}")


if __name__ == "__main__":
    main()

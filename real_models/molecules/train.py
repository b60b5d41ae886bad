"""Train the flow of molecules: ``python -m real_models.molecules.train flow --seconds 6000`` (extra ``molecules``).

The flow-matching loss of the CondOT path (Lipman et al. 2023, arXiv 2210.02747) is |u(x_t, t) - (x_1 - x_0)|^2 with
noise x_0 of zero centre of mass, each part weighted by 1 / c_out^2 of ``network.scaling`` (Karras et al. 2022, arXiv
2206.00364). The rate of learning is constant and then falls to zero as 1 minus the square root of the way (Haegele et
al. 2024, arXiv 2405.18392): the fall begins when its share of the budget is left, and how many steps it takes is kept
in the state then, so that a run that was stopped goes on where it was, bit for bit, when the same command is given.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from analysis import checks, intervals
from real_models import checkpoint, training
from real_models.molecules import WEIGHTS, data
from real_models.molecules.network import Velocity, event, project, scaling
from real_models.molecules.optimiser import muon

TYPE_SHARE = 0.5  # weight of the types' loss beside the coordinates'
DRAWS = 4  # times and noises per held-out molecule
ENDLESS = 10**9  # steps of a plan whose fall has not begun
SHOWN = 0.99  # smoothing of the loss that is shown


@dataclass(frozen=True)
class Plan(training.Plan):
    """A constant rate until step ``turn``, and from there a fall to zero at ``steps``."""

    turn: int = ENDLESS

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        way = max(0, step - self.turn) / max(1, self.steps - self.turn)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (1 - way**0.5)


def settled(plan: Plan, store: Path) -> Plan:
    """Return the plan with the fall that the state in ``store`` has begun, if it has."""
    if not store.exists():
        return plan
    found = checkpoint.read(store)[1].get("plan", {})
    return replace(plan, steps=found.get("steps", plan.steps), turn=found.get("turn", plan.turn))


class Trainer(training.Trainer):
    """Training within a budget of seconds, of which a ``share`` is kept for the fall of the rate."""

    plan: Plan
    module: Velocity

    def __init__(self, module: Velocity, loss: training.Loss, plan: Plan, store: Path) -> None:
        super().__init__(module, loss, plan, store)
        if not store.exists():
            self._choose()

    def _choose(self) -> None:
        plan = self.plan
        self.optimiser = muon(self.module.matrices(), self.module, plan.learning_rate, plan.weight_decay)  # type: ignore[assignment]

    def _resume(self) -> None:
        self._choose()
        super()._resume()

    def spend(self, seconds: float, share: float = 0.3, every: float = 120.0) -> nn.Module:
        """Train for so long, keeping the state and saying how it goes ``every`` seconds; return the average.

        Raises ``ValueError`` for a budget that is not positive, or a share outside [0, 1].
        """
        if not seconds > 0:
            raise ValueError(f"seconds must be positive, got {seconds}")
        checks.share("share", share)
        console, start, before, shown = Console(), time.perf_counter(), self.seconds, None
        said = self.seconds
        while self.done < self.plan.steps:
            value = self.step()
            shown = value if shown is None else SHOWN * shown + (1 - SHOWN) * value
            self.seconds = before + time.perf_counter() - start
            if self.plan.turn == ENDLESS and self.seconds > (1 - share) * seconds:
                left = max(1, round(self.done * share / (1 - share))) if share < 1 else 1
                self.plan = replace(self.plan, turn=self.done, steps=self.done + left)
            if self.seconds - said >= every or self.done == self.plan.steps:
                said = self.seconds
                self.keep()
                rate = self.plan.rate(self.done)
                console.print(f"step {self.done}, {said:.0f} of {seconds:.0f} s, loss {shown:.4f}, rate {rate:.2e}")
        return self.average


class Batches:
    """Draws of training events, all of one number of atoms, as often of each number as the data have it."""

    def __init__(self, molecules: data.Molecules) -> None:
        self.sizes = list(molecules.by_size)
        self.groups = [event(*molecules.stacked(molecules.of_size(n))) for n in self.sizes]
        self.weights = torch.tensor([float(len(group)) for group in self.groups])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return events (count, N, 8)."""
        group = self.groups[int(torch.multinomial(self.weights, 1, generator=generator))]
        return group[torch.randint(len(group), (count,), generator=generator)]


def times(count: int, generator: torch.Generator) -> Tensor:
    """Return times (count,) of density 1/2 + t, evenly spread: fine structure is decided late."""
    u = (torch.rand(count, generator=generator) + torch.arange(count)) / count
    return ((1 + 8 * u).sqrt() - 1) / 2


def residuals(network: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return the weighted flow-matching loss of each event x (B, N, 8), (B,): one noise and one of ``times`` each."""
    device = next(network.parameters()).device
    t, noise = times(len(x), generator), project(torch.randn(x.shape, generator=generator))
    x, noise, t = x.to(device), noise.to(device), t.to(device)
    state = noise + t[:, None, None] * (x - noise)
    error = ((network(state, t) - (x - noise)) / scaling(t)[2]).square()
    return error[..., :3].mean((1, 2)) + TYPE_SHARE * error[..., 3:].mean((1, 2))


@torch.no_grad()
def held_out_loss(network: nn.Module, molecules: data.Molecules, draws: int = DRAWS, seed: int = 0) -> Tensor:
    """Return the loss of each molecule, (M,), averaged over ``draws`` times and noises."""
    generator, found = torch.Generator().manual_seed(seed), torch.zeros(len(molecules))
    for n in list(molecules.by_size) * draws:
        rows = torch.from_numpy(molecules.of_size(n))
        rows = rows[torch.randperm(len(rows), generator=generator)]  # each molecule at another part of time each draw
        for some in rows.split(128):
            x = event(*molecules.stacked(some.numpy()))
            found[some] += residuals(network, x, generator).float().cpu() / draws
    return found


def record(trainer: training.Trainer, batch: int, held_out: int) -> dict[str, Any]:
    """Return how the averaged weights came about, and their loss on molecules of the validation part."""
    unseen = data.part("validation")
    loss = held_out_loss(trainer.average, unseen.select(np.arange(min(held_out, len(unseen)))))
    found = trainer.record() | {"data": "QM9", "split": {name: len(rows) for name, rows in data.splits().items()}}
    found |= {"batch": batch, "steps_done": trainer.done, "threads": torch.get_num_threads(), "draws": DRAWS}
    return found | {"held_out": held_out, "held_out_loss": asdict(intervals.interval(loss.double().numpy()))}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["flow"])
    parser.add_argument("--seconds", type=float, default=6000.0, help="budget of wall time")
    parser.add_argument("--fall", type=float, default=0.3, help="share of the budget in which the rate falls to zero")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--float32", action="store_true", help="compute the loss in float32, not bfloat16 (autocast)")
    parser.add_argument("--compile", action="store_true", help="compile the network (minutes, then twice as fast)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=120.0, help="seconds between two keeps of the state")
    parser.add_argument("--held-out", type=int, default=2000, help="molecules of the validation part to judge by")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
    parser.add_argument("--state", type=Path, help="file of the state (default: in the cache folder)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the averaged weights with their record."""
    options = parse(arguments)
    torch.manual_seed(options.seed)
    network, batches = Velocity(width=options.width), Batches(data.part("flow"))
    store = options.state or data.cache_folder() / "molecules" / f"{options.what}.state.safetensors"
    plan = Plan(ENDLESS, options.learning_rate, device=options.device, bfloat16=not options.float32, seed=options.seed)

    def loss(module: nn.Module, generator: torch.Generator) -> Tensor:
        return residuals(module, batches.draw(options.batch, generator), generator).mean()

    trainer = Trainer(network, loss, settled(plan, store), store)
    if options.compile:
        trainer.module.compile(dynamic=True)
    trainer.spend(options.seconds, options.fall, options.every)
    about = record(trainer, options.batch, options.held_out)
    trainer.write(options.out, options.what, network.config, about)
    print(f"held-out loss {about['held_out_loss']}")


if __name__ == "__main__":
    main()

"""Training within a budget of seconds, by Muon; a stopped run resumes bit for bit.

The learning rate is constant and then falls to zero as one minus a square root (Haegele et al. 2024, arXiv 2405.18392).
The fall begins when only its share of the budget is left. The number of its steps is then written into the state, so
that a resumed run takes the same steps as one that was not stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from torch import nn

from analysis import checks
from real_models import checkpoint, training
from real_models.molecules.network import Velocity
from real_models.molecules.optimiser import muon
from real_models.molecules.predictor import Predictor
from real_models.molecules.recording import BatchLoss, Recorder

ENDLESS = 10**9  # steps of a plan whose fall has not begun
SHOWN = 0.99  # smoothing of the loss that is shown


@dataclass(frozen=True)
class Plan(training.Plan):
    """A constant rate until step ``turn``, and from there a fall to zero at ``steps``."""

    turn: int = ENDLESS
    batch: int = 128

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        fallen = max(0, step - self.turn) / max(1, self.steps - self.turn)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (1 - fallen**0.5)


def settled(plan: Plan, store: Path) -> Plan:
    """Return the plan with the fall of the rate that the state in ``store`` has begun, if any."""
    if not store.exists():
        return plan
    before = checkpoint.read(store)[1].get("plan", {})
    return replace(plan, steps=before.get("steps", plan.steps), turn=before.get("turn", plan.turn))


class Trainer(training.Trainer):
    """Training within a budget of seconds, of which a ``share`` is reserved for the fall of the rate."""

    plan: Plan
    module: Velocity | Predictor

    def __init__(self, module: Velocity | Predictor, loss: training.Loss, plan: Plan, store: Path) -> None:
        super().__init__(module, loss, plan, store)
        on_gpu = plan.device.startswith("cuda")
        self.recorder = Recorder(loss, module, plan.bfloat16) if isinstance(loss, BatchLoss) and on_gpu else None
        if not store.exists():
            self._choose()

    def _choose(self) -> None:
        plan = self.plan
        self.optimiser = muon(self.module.matrices(), self.module, plan.learning_rate, plan.weight_decay)  # type: ignore[assignment]

    def _resume(self) -> None:
        self._choose()
        super()._resume()

    def _gradients(self) -> float:
        return super()._gradients() if self.recorder is None else self.recorder.gradients(self.generator)

    def spend(self, seconds: float, share: float = 0.3, every: float = 120.0) -> nn.Module:
        """Train for ``seconds`` in all; write the state and print the progress ``every`` seconds.

        Returns
        -------
        nn.Module
            The network with averaged weights.

        Raises
        ------
        ValueError
            For a budget that is not positive, or a share outside [0, 1].
        """
        if not seconds > 0:
            raise ValueError(f"seconds must be positive, got {seconds}")
        checks.share("share", share)
        console, start, before, smooth = Console(), time.perf_counter(), self.seconds, None
        last = self.seconds
        while self.done < self.plan.steps:
            value = self.step()
            smooth = value if smooth is None else SHOWN * smooth + (1 - SHOWN) * value
            self.seconds = before + time.perf_counter() - start
            if self.plan.turn == ENDLESS and self.seconds > (1 - share) * seconds:
                left = max(1, round(self.done * share / (1 - share))) if share < 1 else 1
                self.plan = replace(self.plan, turn=self.done, steps=self.done + left)
            if self.seconds - last >= every or self.done == self.plan.steps:
                last = self.seconds
                self.save_state()
                rate = self.plan.rate(self.done)
                console.print(f"step {self.done}, {last:.0f} of {seconds:.0f} s, loss {smooth:.4f}, rate {rate:.2e}")
        return self.average

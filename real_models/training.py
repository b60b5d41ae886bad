"""Training that can be stopped at any time and resumes bit for bit; its whole state is one safetensors file.

It uses AdamW, a linear warm-up and a cosine decay of the learning rate, and an exponential moving average of the
weights, which is the result. All random draws come from one CPU generator, so that all devices see the same batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from analysis import checks, provenance, results
from real_models import checkpoint

Loss = Callable[[nn.Module, torch.Generator], Tensor]
Tensors = tuple[Tensor, ...] | list[Tensor]
SMOOTHING = 0.98  # of the loss that the progress bar shows


@dataclass(frozen=True)
class Plan:
    """The hyper-parameters of a training run; together with the loss they determine the weights.

    ``ema`` is the decay of the average, shorter at the start; ``bfloat16`` computes the loss under autocast.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False

    def __post_init__(self) -> None:
        checks.count("steps", self.steps)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        decay = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * decay

    def decay(self, step: int) -> float:
        """Return the decay of the average at a step, counted from 0; it rises to ``ema``."""
        return min(self.ema, (1 + step) / (10 + step))


class Trainer:
    """A resumable training run of a module by a plan; its state is checkpointed in the file ``store``.

    ``average`` is the module with averaged weights.

    Raises
    ------
    ValueError
        If ``store`` holds the state of another plan or architecture.
    """

    def __init__(self, module: nn.Module, loss: Loss, plan: Plan, store: Path) -> None:
        self.module, self.loss, self.plan, self.store = module.to(plan.device), loss, plan, store
        self._averaging = AveragedModel(self.module, multi_avg_fn=self._average)
        self.average: nn.Module = self._averaging.module.requires_grad_(False)
        self.optimiser = torch.optim.AdamW(module.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.done, self.seconds = 0, 0.0
        if store.exists():
            self._resume()

    def step(self) -> float:
        """Take one step.

        Returns
        -------
        float
            The loss.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.done)
        if not math.isfinite(loss := self._gradients()):
            raise FloatingPointError(f"the loss is {loss} at step {self.done}")
        nn.utils.clip_grad_norm_(self.module.parameters(), self.plan.clip)
        self.optimiser.step()
        self._averaging.update_parameters(self.module)
        self.done += 1
        return loss

    def _gradients(self) -> float:
        """Set the gradients of the parameters at the next batch, and return its loss."""
        with torch.autocast(self.plan.device.split(":")[0], torch.bfloat16, enabled=self.plan.bfloat16):
            value = self.loss(self.module, self.generator)
        self.optimiser.zero_grad()
        value.backward()
        return value.item()

    def _average(self, averages: Tensors, new: Tensors, updates: Tensor | int) -> None:
        get_ema_multi_avg_fn(self.plan.decay(self.done))(averages, new, updates)

    def run(self, every: int = 250, stop: int | None = None) -> nn.Module:
        """Train to the end of the plan, or to step ``stop``, saving the state ``every`` steps; return the average."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        end, shown = min(stop or self.plan.steps, self.plan.steps), math.nan
        with Progress(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task("training", total=end, completed=self.done)
            start = time.perf_counter()
            while self.done < end:
                value = self.step()
                shown = value if math.isnan(shown) else SMOOTHING * shown + (1 - SMOOTHING) * value
                progress.update(task, advance=1, description=f"loss {shown:.4f}")
                if self.done % every == 0 or self.done == end:
                    self.seconds, start = self.seconds + time.perf_counter() - start, time.perf_counter()
                    self.save_state()
        return self.average

    def save_state(self) -> None:
        """Save the state in ``store``."""
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
        tensors["generator"] = self.generator.get_state()
        checkpoint.save(self.store, tensors, plan=asdict(self.plan), done=self.done, seconds=self.seconds)

    def record(self) -> dict[str, Any]:
        """Return the training metadata of the averaged weights."""
        about: dict[str, Any] = {"plan": asdict(self.plan), "seconds": round(self.seconds)}
        about |= {"device": provenance.device_name(self.plan.device), "torch": torch.__version__}
        return about | {"parameters": sum(part.numel() for part in self.average.parameters())}

    def write(self, folder: Path, name: str, config: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Write the averaged weights with their architecture, and their metadata as JSON beside."""
        path = folder / f"{name}.safetensors"
        checkpoint.save(path, self.average.state_dict(), config=config, record=about)
        results.write_json(path.with_suffix(".json"), about)

    def _resume(self) -> None:
        """Load the state in ``store``; raises ``ValueError`` for the state of another plan or architecture."""
        tensors, record = checkpoint.read(self.store)
        known, asked = record.get("plan") or {}, asdict(self.plan)
        if others := [f"{name} {known.get(name)} (now {v})" for name, v in asked.items() if known.get(name) != v]:
            raise ValueError(f"store: {self.store} was trained with {', '.join(others)}; name another file or these")
        parts: dict[str, dict[str, Tensor]] = {"module": {}, "average": {}, "optimiser": {}, "generator": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        try:
            self.module.load_state_dict(parts["module"])
            self.average.load_state_dict(parts["average"])
        except RuntimeError as error:
            raise ValueError(
                f"store: {self.store} holds another architecture ({str(error).splitlines()[0]})"
            ) from error
        self._resume_optimiser(parts["optimiser"])
        self.generator.set_state(parts["generator"][""])
        self.done, self.seconds = record["done"], record["seconds"]
        self._averaging.n_averaged.fill_(self.done)

    def _resume_optimiser(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            i, _, rest = name.partition(".")
            state.setdefault(int(i), {})[rest] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})

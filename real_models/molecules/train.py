"""Train the networks of molecules (extra ``molecules``), each by one command; the same command resumes a stopped run.

    python -m real_models.molecules.train flow --seconds 6000
    python -m real_models.molecules.train guide --seconds 1400
    python -m real_models.molecules.train evaluator --seconds 1400
    python -m real_models.molecules.train flow --seconds 300 --device cuda --batch 768

The flow and the guide see one half of the training part, the evaluator the other half, with another seed. A run that
has ended can be followed by another round from its weights (``--start``, with another ``--state``); ``--export`` writes
the averaged weights of one that has not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import intervals
from real_models import checkpoint, options
from real_models.molecules import WEIGHTS, data, losses
from real_models.molecules.budget import ENDLESS, Plan, Trainer, settled
from real_models.molecules.network import Velocity
from real_models.molecules.predictor import Predictor
from real_models.molecules.recording import BatchLoss

HALVES = {"flow": "flow", "guide": "flow", "evaluator": "evaluator"}
SEEDS = {"flow": 0, "guide": 0, "evaluator": 1}
WIDTHS = {"flow": 128, "guide": 96, "evaluator": 96}


def build(what: str, width: int, molecules: data.Molecules) -> Velocity | Predictor:
    """Return an untrained network of one of ``HALVES``."""
    if what == "flow":
        return Velocity(width=width)
    predictor = Predictor(width=width)
    losses.fit_composition(predictor, molecules)
    return predictor


def loss_of(what: str, molecules: data.Molecules, batch: int) -> BatchLoss:
    """Return the loss that a network of one of ``HALVES`` is trained by."""
    batches = losses.Batches(molecules)

    def noised(generator: torch.Generator) -> tuple[Tensor, ...]:
        return losses.noised(batches.draw(batch, generator)[0], generator)

    def jittered(generator: torch.Generator) -> tuple[Tensor, ...]:
        return losses.jittered(*batches.draw(batch, generator), generator)

    return BatchLoss(noised, losses.flow_loss) if what == "flow" else BatchLoss(jittered, losses.prediction_loss)


def held_out(what: str, network: Any, count: int) -> dict[str, Any]:
    """Measure a network on molecules that it was not trained on, with intervals over molecules.

    A flow is judged by its loss on ``count`` molecules of the validation part, a predictor by its mean absolute errors
    on ``count`` of the test part.

    Returns
    -------
    dict
        The record of these numbers.
    """
    unseen = data.part("validation" if what == "flow" else "test")
    unseen = unseen.select(np.arange(min(count, len(unseen))))
    if what == "flow":
        loss = losses.held_out_loss(network, unseen).double().numpy()
        return {"held_out": len(unseen), "draws": losses.DRAWS, "held_out_loss": asdict(intervals.interval(loss))}
    errors = losses.prediction_errors(network, unseen).double().numpy().T
    means = {
        name: asdict(intervals.interval(row, resamples=99)) for name, row in zip(data.PROPERTIES, errors, strict=True)
    }
    return {"held_out": len(unseen), "mae": means, "jitter": list(losses.JITTER)}


def record(what: str, trainer: Trainer, batch: int, count: int) -> dict[str, Any]:
    """Return training metadata and the quality of the averaged weights on held-out molecules."""
    about = trainer.record() | {"data": "QM9", "split": {name: len(rows) for name, rows in data.splits().items()}}
    about |= {"half": HALVES[what], "batch": batch, "steps_done": trainer.done, "threads": torch.get_num_threads()}
    return about | held_out(what, trainer.average, count)


def quality(about: dict[str, Any]) -> str:
    """Return the held-out loss of a record, or the mean absolute errors with their units, with 95 % intervals."""
    errors = {f"{name} ({data.UNITS[name]})": values for name, values in about.get("mae", {}).items()}
    said = errors or {"loss": about["held_out_loss"]}
    return ", ".join(f"{name} {v['mean']:.4g} [{v['low']:.4g}, {v['high']:.4g}]" for name, v in said.items())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(HALVES))
    parser.add_argument("--seconds", type=options.positive, default=6000.0, help="budget of wall time (default: 6000)")
    parser.add_argument("--fall", type=options.share, default=0.3, help="share of it in which the rate falls (0.3)")
    parser.add_argument("--batch", type=options.count, default=128, help="molecules in a step (default: 128)")
    parser.add_argument("--width", type=options.count, help="of the network (flow: 128, predictor: 96)")
    parser.add_argument("--learning-rate", type=options.positive, default=1.5e-3, help="(default: 0.0015)")
    parser.add_argument("--device", type=options.device, default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--float32", action="store_true", help="compute the loss in float32, not bfloat16 (autocast)")
    parser.add_argument("--compile", action="store_true", help="compile the network (minutes, then twice as fast)")
    parser.add_argument("--seed", type=options.seed, help="(default: 0, and 1 for the evaluator)")
    parser.add_argument("--every", type=options.positive, default=120.0, help="seconds between two states (120)")
    parser.add_argument("--export", action="store_true", help="train no further; write the weights of the state so far")
    parser.add_argument(
        "--held-out",
        type=options.count,
        default=2000,
        help="unseen molecules to judge by, at most (2000)",
    )
    parser.add_argument("--start", type=options.file, help="weights to go on from in another round, with a new state")
    parser.add_argument(
        "--out", type=options.folder, default=WEIGHTS, help="folder of the weights (default: the shipped)"
    )
    parser.add_argument("--state", type=Path, help="file of the state (default: in the cache folder)")
    return parser.parse_args(arguments)


@options.in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the averaged weights with their record; ``SystemExit`` if there is nothing to export."""
    asked = parse(arguments)
    what, start = asked.what, SEEDS[asked.what] if asked.seed is None else asked.seed
    torch.manual_seed(start)
    molecules = data.part(HALVES[what])
    network = build(what, asked.width or WIDTHS[what], molecules)
    if asked.start is not None:
        network.load_state_dict(checkpoint.load(asked.start, type(network)).state_dict())
    store = asked.state or data.cache_folder() / "molecules" / f"{what}.state.safetensors"
    how: dict[str, Any] = {"device": asked.device, "bfloat16": not asked.float32, "batch": asked.batch}
    plan = Plan(ENDLESS, asked.learning_rate, seed=start, **how)
    trainer = Trainer(network, loss_of(what, molecules, asked.batch), settled(plan, store), store)
    if asked.compile:
        trainer.module.compile(dynamic=True)
    if asked.export and not trainer.done:
        raise SystemExit(f"--export: there is no state of a training at {store}; --state names another file")
    if not asked.export:
        trainer.spend(asked.seconds, asked.fall, asked.every)
    about = record(what, trainer, asked.batch, asked.held_out)
    if trainer.done < trainer.plan.steps:
        about["note"] = f"The weights are those of a training under way, after {trainer.done} steps."
    about["start"] = checkpoint.read(asked.start)[1]["record"] if asked.start else None
    trainer.write(asked.out, what, network.config, about)
    print(f"on molecules that were not trained on: {quality(about)}")


if __name__ == "__main__":
    main()

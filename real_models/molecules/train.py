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
from real_models import checkpoint
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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(HALVES))
    parser.add_argument("--seconds", type=float, default=6000.0, help="budget of wall time")
    parser.add_argument("--fall", type=float, default=0.3, help="share of the budget in which the rate falls to zero")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, help="of the network (default: 128 for the flow, 96 for a predictor)")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--float32", action="store_true", help="compute the loss in float32, not bfloat16 (autocast)")
    parser.add_argument("--compile", action="store_true", help="compile the network (minutes, then twice as fast)")
    parser.add_argument("--seed", type=int, help="(default: 0, and 1 for the evaluator)")
    parser.add_argument("--every", type=float, default=120.0, help="seconds between two writes of the state")
    parser.add_argument("--export", action="store_true", help="train no further; write the weights of the state so far")
    parser.add_argument("--held-out", type=int, default=2000, help="molecules that were not trained on, to judge by")
    parser.add_argument("--start", type=Path, help="file of weights to go on from in another round, with a new state")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
    parser.add_argument("--state", type=Path, help="file of the state (default: in the cache folder)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and write the averaged weights with their record; ``SystemExit`` if there is nothing to export."""
    options = parse(arguments)
    what, seed = options.what, SEEDS[options.what] if options.seed is None else options.seed
    torch.manual_seed(seed)
    molecules = data.part(HALVES[what])
    network = build(what, options.width or WIDTHS[what], molecules)
    if options.start is not None:
        network.load_state_dict(checkpoint.load(options.start, type(network)).state_dict())
    store = options.state or data.cache_folder() / "molecules" / f"{what}.state.safetensors"
    plan = Plan(ENDLESS, options.learning_rate, device=options.device, bfloat16=not options.float32, seed=seed)
    trainer = Trainer(network, loss_of(what, molecules, options.batch), settled(plan, store), store)
    if options.compile:
        trainer.module.compile(dynamic=True)
    if options.export and not trainer.done:
        raise SystemExit(f"--export: there is no state of a training at {store}; --state names another file")
    if not options.export:
        trainer.spend(options.seconds, options.fall, options.every)
    about = record(what, trainer, options.batch, options.held_out)
    if trainer.done < trainer.plan.steps:
        about["note"] = f"The weights are those of a training under way, after {trainer.done} steps."
    about["start"] = checkpoint.read(options.start)[1]["record"] if options.start else None
    trainer.write(options.out, what, network.config, about)
    print(f"on molecules that were not trained on: {about.get('held_out_loss', about.get('mae'))}")


if __name__ == "__main__":
    main()

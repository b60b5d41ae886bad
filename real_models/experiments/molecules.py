"""Property-guided molecules: the estimators of the dial in four settings, over budgets, judged by four judges.

The task is that of the paper's table 1 (arXiv 2502.08006): molecules of 18 atoms whose property, as a second predictor
sees it, is near a wanted value. The settings are source optimisation (D-Flow, arXiv 2402.14017) from a start at or near
the noise ("source") and from one in the second half of time ("late"), per-step guidance and control optimisation
(OC-Flow, arXiv 2410.18070), each with all estimators of the dial. Per-step guidance has two choices of options: for the
least error, and such that leave molecules whole ("guidance_stable").

A cell is one estimator in one setting on one batch of targets, with all budgets (evaluations and products per molecule)
and all six properties. All estimators of a batch have the same targets, noise and number of trials; how options are
chosen, and from what, is in ``real_models.molecules.measuring``.

The full run has ``BATCHES`` of ``EACH`` molecules of each property, in float32 on one thread; with ``--device cuda``,
of as many as ``ON_GPU`` says, judged on the CPU. It takes hours on a CPU: batch after batch, so that a run which is
stopped has whole ones, and the same command goes on from its finished cells. They stay current as batches, sizes of
molecules, budgets of others, properties or estimators are added here.
``python -m real_models.experiments.molecules`` measures an evaluation and prints how long a run takes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from analysis.experiment import Cell
from analysis.guidance.dial import ladder
from analysis.settings import Options, Variant
from real_models.molecules import comparison, data, judging
from real_models.molecules.measuring import AIM, search_of
from real_models.molecules.ranges import REGIMES, SOLVE
from real_models.molecules.targets import ATOMS, draw, statistics

SUITE = "molecules"
PACKAGES = ("rdkit", "tblite")
BATCHES = 1
SIZES = (ATOMS,)  # the numbers of atoms in batches, in turn
EACH, TUNING = 16, 4  # molecules of each property in a batch, to report and to tune on
ON_GPU = {"each": 64, "tuning": 4}  # which launches as many kernels for few molecules as for many
# Greedy, two-step Euler, midpoint, four steps of either; end-to-end is the gradient of the very solve that makes the
# molecules of an optimised source, since on this flow eight steps and sixteen end in different molecules.
DIAL = ladder(**SOLVE)
BUDGETS = {"source": (96, 384, 1536), "late": (96, 384), "guidance": (96, 384), "controls": (96, 384)}
# Of each optimiser or rule: all over the ranges at the least budget; the best again at larger ones, as far and farther.
TRIALS = {"source": (24, 3, 1), "late": (16, 4), "guidance": (8, 1), "controls": (10, 1)}
QUICK = {"properties": ("alpha", "gap"), "each": 1, "tuning": 1, "physics": False, "budgets": (48,), "trials": (1,)}
PLANNED = (16, 64, 256)  # molecules of each property, in a plan
derive = comparison.derive


def cells(options: Options) -> list[Cell]:
    """Return a cell per batch, setting and estimator, and one per batch of unguided molecules."""
    if options.quick:
        return [cell(options, "source", name, 0) for name in ("unguided", "greedy", "midpoint")]
    judging.required()
    for atoms in SIZES:
        statistics(atoms)  # so that data that are missing are missed before any work
    return [cell(options, *pair, batch) for batch in range(BATCHES) for pair in pairs()]


def pairs() -> list[tuple[str, str]]:
    """Return the settings and estimators of a batch."""
    return [("source", "unguided"), *((setting, name) for setting in BUDGETS for name in DIAL)]


def cell(options: Options, setting: str, name: str, batch: int) -> Cell:
    """Return the cell of an estimator in a setting on a batch of targets."""
    budgets = BUDGETS[setting]
    sizes: dict[str, Any] = {"properties": data.PROPERTIES, "each": EACH, "tuning": TUNING, "physics": True}
    sizes |= {"budgets": budgets, "trials": TRIALS[setting]}
    sizes |= ON_GPU if options.device != "cpu" else {}
    sizes |= QUICK if options.quick else {}
    return Cell(
        measure="real_models.molecules.measuring:measure",
        problem="qm9",
        path="condot",
        samples=sizes["each"],
        variants=(DIAL.get(name, Variant.of(name)),),
        seed=options.seed + batch,
        dtype="float32",
        device=options.device,
        extra=(
            ("setting", setting),
            ("name", name),
            ("batch", batch),
            ("atoms", SIZES[batch % len(SIZES)]),
            *sizes.items(),
        ),
    )


def evaluations(one: Cell) -> float:
    """Return about how many evaluations and products a cell takes, over all of its molecules."""
    extra = one.extra_dict
    searches = len(REGIMES[extra["setting"]])
    first, *larger = (trials * budget for trials, budget in zip(extra["trials"], extra["budgets"], strict=True))
    tried = first + 2 * sum(larger)  # in two ways
    return len(extra["properties"]) * (extra["tuning"] * searches * tried + extra["each"] * sum(extra["budgets"]))


def seconds(one: Cell, each: int = 1) -> dict[int, float]:
    """Measure the seconds of an evaluation or product by budget, with ``each`` molecules of every property."""
    extra = one.extra_dict
    search, *_ = search_of(one, draw(each, one.generator(), extra["properties"], extra["atoms"])).searches
    (best, *_) = search.best(search.wide(1, extra["budgets"][0]), AIM, 1)
    made = {}
    for budget in extra["budgets"][:2]:
        settled = search.options(best.trial, budget)
        assert settled is not None
        start = time.process_time()
        cost = search.run(settled, search.tuning).cost
        made[budget] = (time.process_time() - start) / ((cost.evaluations + cost.vjps) * len(search.tuning.x0))
    return made


def plan() -> Iterator[str]:
    """Yield lines: what the cells of a batch take, and runs of ``PLANNED`` molecules of each property."""
    guided, total = [cell(Options(), *pair, 0) for pair in pairs()[1:]], 0.0
    for one in guided:
        measured, many = seconds(one), evaluations(one)
        taken = many * max(measured.values())
        total += taken
        times = ", ".join(f"{1000 * value:.2f} ms at {budget}" for budget, value in measured.items())
        name = f"{one.extra_dict['setting']}, {one.extra_dict['name']}"
        yield f"{name}: {many:.0f} evaluations and products, {times}, {taken / 60:.0f} core-minutes"
    for each in PLANNED:
        batches = -(-each // EACH)
        yield f"{each} molecules of each property: BATCHES = {batches}, {batches * total / 3600:.1f} core-hours"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in plan():
        print(line)
        sys.stdout.flush()

"""Restored digits: the dial in every regime on the learned flow, over budgets, and published methods beside it.

A cell is one estimator in one regime, or one published method, on one of eight kinds of measurements. Options are
chosen on images that are not reported (all were held out from the training of flow and classifier), by the same number
of trials for each: ``TRIALS`` all over the ranges at the least budget; at a larger budget the ``KEPT`` best by each aim
run again, with moves as long as before and with a run that goes as far as before. A budget is a limit: the best of all
that was tried within it counts. Adaptive lookahead, whose cost depends on the state, has as many moves as its trials
show that the budget pays for. In the source and in controls each optimiser has ``BY_OPTIMISER`` trials. There are two
aims, the misfit and PSNR. Rows are values per image and metric, so that differences are paired; a sample that diverges
is a row with a missing value and a status that names the step. Rows of the first images hold their pixels, two
hexadecimal digits each.

One more cell per operator measures the errors of all estimators against converged gradients, at states of greedy
guidance.
"""

from __future__ import annotations

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from real_models.restoration import accuracy, comparison, methods
from real_models.restoration.by_optimiser import STARTS
from real_models.restoration.digits import NAMES

SUITE = "images"
NOISE, REPORTED, TUNING, TRIALS, KEPT = 0.05, 8, 4, 8, 1
BY_OPTIMISER = 12  # trials for each optimiser of a source and of controls, which also have a weight
BUDGETS = (96, 384)
LARGER = 1536  # in the regimes that need a hundred iterations, on some operators; the experiment regimes has these too
ITERATED = ("source", "controls")
LONGER = ("box_inpainting", "random_inpainting", "super_resolution_2", "gaussian_deblurring")
ESTIMATORS = {
    **dict.fromkeys(("guidance", "steps", *STARTS, "controls"), tuple(methods.DIAL)),
    "published": tuple(methods.PUBLISHED),
}
MEASURES = dict.fromkeys((*STARTS, "controls"), "by_optimiser:measure")
QUICK = {
    "guidance": ("greedy", "midpoint"),
    "source": ("greedy", "midpoint", "end_to_end"),
    "source_late": ("greedy", "end_to_end"),
    "published": ("dps",),
}
derive = comparison.derive


def cells(options: Options) -> list[Cell]:
    """Return the cells of all operators; in the quick run those of a few methods on one."""
    if options.quick:
        pairs = [("references", "references"), *((r, name) for r, some in QUICK.items() for name in some)]
        return [cell(options, "super_resolution_2", *pair) for pair in pairs]
    pairs = [("references", "references"), ("errors", "errors")]
    pairs += [(regime, name) for regime, some in ESTIMATORS.items() for name in some]
    return [cell(options, operator, *pair) for operator in NAMES for pair in pairs]


def cell(options: Options, operator: str, regime: str, name: str) -> Cell:
    """Return the cell of a method on an operator."""
    budgets = (*BUDGETS, LARGER) if regime in ITERATED and operator in LONGER else BUDGETS
    sizes = {"tuning": TUNING, "budgets": budgets, "trials": BY_OPTIMISER if regime in MEASURES else TRIALS}
    sizes["kept"] = KEPT
    sizes |= {"tuning": 2, "budgets": (24, 48), "trials": 2, "kept": 1} if options.quick else {}
    samples = accuracy.IMAGES if regime == "errors" else 2 if options.quick else REPORTED
    return Cell(
        measure=f"real_models.restoration.{MEASURES.get(regime, 'measure:measure')}",
        factory="real_models.images:flow",
        problem="mnist_unet",
        path="condot",
        times=accuracy.TIMES if regime == "errors" else (),
        samples=samples,
        variants=(Variant.of(name),),
        seed=options.seed,
        dtype="float32",
        device=options.device,
        extra=(("regime", regime), ("operator", operator), ("noise", NOISE), *sizes.items()),
    )

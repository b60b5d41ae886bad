"""Control optimisation on mixtures, over budgets, with the optimisers that public code has.

FlowGrad and OC-Flow (arXiv 2410.18070) take SGD; D-Flow, which optimises a state, L-BFGS. Adam stands beside them. Each
is searched separately, as in ``source_mixtures``: a search of few trials that may choose between optimisers can miss
the one that suits a gradient. Measurements and aims are those of ``regimes``, whose own search for controls has eight
trials for Adam and SGD together; the recommendation for controls is made from this one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.experiment import Cell
from analysis.settings import Options
from toy_models.experiments import regime_tables, which_gradient
from toy_models.experiments.regime_outcomes import ESTIMATORS
from toy_models.experiments.regime_tables import BUDGETS, MNIST, ON_MNIST, OPERATORS, QUICK, SPARSE

SUITE = "guidance"
SIZES = {"trials": 12, "nearer": 1, "kept": 4}  # for each of three optimisers
FEWER = MNIST | {"trials": 6, "kept": 1}


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator and estimator, on the digits and on MNIST, and those of the errors of gradients."""
    errors = [one for one in which_gradient.cells(options) if one.measure == f"{which_gradient.__name__}:measure"]
    if options.quick:
        return [*(cell(options, OPERATORS[0], e, **QUICK) for e in ("greedy", "end_to_end")), *errors]
    budgets = {e: SPARSE if e == "adaptive" else BUDGETS for e in ESTIMATORS}
    made = [cell(options, o, e, budgets=budgets[e]) for o in OPERATORS for e in ESTIMATORS]
    return [*made, *errors, *(cell(options, o, e, **FEWER) for o in OPERATORS[:3] for e in ON_MNIST)]


def cell(options: Options, operator: str, estimator: str, **sizes: Any) -> Cell:
    """Return a cell; ``sizes`` replace some of ``regime_tables.SIZES``."""
    made = regime_tables.cell(options, operator, "controls", estimator, **SIZES | sizes)
    return replace(made, measure="toy_models.experiments.control_outcomes:measure")

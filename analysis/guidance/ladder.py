"""The dial from greedy to end-to-end, by name: each rung is an estimator of the guidance gradient with its options.

The first names are those of arXiv 2502.08006 (table 1): greedy, which is one DDIM step; two-step Euler; midpoint, one
step of it. Then the steps double, Euler beside midpoint, up to end-to-end, the whole solve with N steps.
"""

from __future__ import annotations

from analysis import checks
from analysis.gradients import ESTIMATORS
from analysis.gradients.registry import GradientRule
from analysis.settings import Variant
from analysis.solvers import SOLVERS

STEPS = 32


def ladder(steps: int = STEPS, solver: str = "euler") -> dict[str, Variant]:
    """Return the rungs up to end-to-end with ``steps`` steps of ``solver``, in order of steps.

    Raises ``ValueError`` for steps below 1 and for an unknown solver.
    """
    checks.count("steps", steps)
    checks.known("solver", solver, SOLVERS)
    rungs = {
        "greedy": Variant.of("greedy"),
        "two_step_euler": Variant.of("end_to_end", steps=2, solver="euler"),
        "midpoint": Variant.of("end_to_end", steps=1, solver="midpoint"),
    }
    n = 4
    while n < steps:
        rungs |= {f"{name}_{n}": Variant.of("end_to_end", steps=n, solver=name) for name in ("euler", "midpoint")}
        n *= 2
    return rungs | {"end_to_end": Variant.of("end_to_end", steps=steps, solver=solver)}


LADDER = ladder()


def rule_of(lookahead: str | Variant, name: str = "lookahead") -> tuple[GradientRule, dict[str, object]]:
    """Return the rule and the options of a rung of ``LADDER``, an estimator without options, or a ``Variant``.

    Raises ``ValueError`` that lists what is known; ``name`` is what it calls the argument.
    """
    if isinstance(lookahead, Variant):
        estimator = checks.known(f"the estimator of {name}", lookahead.estimator, ESTIMATORS)
        return ESTIMATORS[estimator].rule, dict(lookahead.options)
    found = LADDER.get(checks.known(name, lookahead, {*LADDER, *ESTIMATORS}), Variant.of(lookahead))
    return ESTIMATORS[found.estimator].rule, dict(found.options)

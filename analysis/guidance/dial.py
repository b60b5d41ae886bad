"""The dial from greedy to end-to-end: estimators of the guidance gradient by name, in order of solver steps.

The first names are those of arXiv 2502.08006 (table 1): greedy, which is one DDIM step; two-step Euler; midpoint, one
step of it. From there the number of steps doubles, Euler beside midpoint, up to end-to-end, the whole solve with N
steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from analysis import checks
from analysis.gradients import ESTIMATORS
from analysis.gradients.registry import GradientRule
from analysis.settings import Variant
from analysis.solvers import SOLVERS

STEPS = 32
Choice = str | Variant | tuple[str, Mapping[str, Any]]
"""An estimator as samplers take it: a name in ``LADDER`` or ``ESTIMATORS``, a ``Variant``, or (name, options)."""


def ladder(steps: int = STEPS, solver: str = "euler") -> dict[str, Variant]:
    """Make the estimators from greedy to end-to-end with ``steps`` steps of ``solver``, in order of steps.

    Returns
    -------
    dict
        The estimators by name.

    Raises
    ------
    ValueError
        For steps below 1 and for an unknown solver.
    """
    steps = checks.steps(steps)
    checks.known("solver", solver, SOLVERS)
    variants = {
        "greedy": Variant.of("greedy"),
        "two_step_euler": Variant.of("end_to_end", steps=2, solver="euler"),
        "midpoint": Variant.of("end_to_end", steps=1, solver="midpoint"),
    }
    n = 4
    while n < steps:
        variants |= {f"{name}_{n}": Variant.of("end_to_end", steps=n, solver=name) for name in ("euler", "midpoint")}
        n *= 2
    return variants | {"end_to_end": Variant.of("end_to_end", steps=steps, solver=solver)}


LADDER = ladder()


def rule_of(choice: Choice, name: str = "lookahead") -> tuple[GradientRule, dict[str, Any]]:
    """Find the gradient rule and the options of an estimator, given in any form of ``Choice``.

    Parameters
    ----------
    choice : the estimator
    name : the name of the argument in error messages

    Returns
    -------
    tuple
        The rule and its options.

    Raises
    ------
    ValueError
        For an unknown name, listing those known, and for options that the estimator does not take or lacks.
    """
    variant = _variant(choice, name)
    rule, options = ESTIMATORS[variant.estimator].rule, dict(variant.options)
    try:
        inspect.signature(rule).bind(None, None, None, None, **options)
    except TypeError as error:
        pair = f'("{variant.estimator}", {{"option": value, ...}})'
        raise ValueError(f"{name}: {variant.estimator} with these options: {error}; give them as {pair}") from error
    return rule, options


def _variant(choice: Choice, name: str) -> Variant:
    if isinstance(choice, str):
        return LADDER.get(checks.known(name, choice, {*LADDER, *ESTIMATORS}), Variant.of(choice))
    if isinstance(choice, tuple) and len(choice) == 2 and isinstance(choice[1], Mapping):
        choice = Variant.of(choice[0], **choice[1])
    if not isinstance(choice, Variant):
        expected = "a name, a Variant, or (name, options)"
        raise ValueError(f"{name} must be {expected}, got {choice!r}")
    checks.known(f"the estimator of {name}", choice.estimator, ESTIMATORS)
    return choice

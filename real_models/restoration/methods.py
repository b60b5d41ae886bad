"""Guided samplers as restorers of images: the compared methods, each under one budget of compute.

**The budget** is the number of network evaluations plus products with its Jacobian, per sample. The calls of a method
grow linearly with its steps (or iterations), so those of one and two steps on a trivial flow tell how many steps the
budget allows. The calls of adaptive lookahead depend on the states: they are measured on the images on which it is
tuned, first with a moderate candidate and then with the chosen one, so on other images they may differ slightly. The
gradient of a step and the step itself share no evaluation, although DPS and PiGDM could save one in three.

**The steps.** The estimators of the dial and DPS use DPS's rule, a step down the gradient of the residual's norm, which
at this small noise is far less stiff than that of the likelihood. The dial applies it before each step, as the paper
does, DPS with it. PiGDM, whose gradient contains the spread of the unknown image, takes likelihood steps. Every method
has one hyper-parameter and the same number of candidates for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.cost import Cost
from analysis.flow import Flow, from_velocity
from analysis.guidance import Method
from analysis.losses import HalfSquaredResidual, Loss
from analysis.paths import CondOT
from analysis.settings import Variant

BUDGET = 96
SOLVE, LOOKAHEAD = 6, 4  # steps of a whole solve that is optimised or differentiated, and of lookahead n
GUESS = 4  # steps from which adaptive lookahead's work is judged first
DIVERGENCE = 30.0  # images have about the norm of the noise, so that a state this much longer is lost
RESIDUAL = (0.5, 1.2, 3.0, 7.5, 18.0, 45.0)  # times the noise, as the rule's gradient is in units of 1/noise
LIKELIHOOD = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SOURCE = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CONTROLS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # times the variance of the noise, as the loss is in units of its inverse
PIGDM_VARIANCE = 0.3  # of a pixel of the digits, on average over pixels
DIAL = {
    "greedy": Variant.of("greedy"),
    "two_step_euler": Variant.of("end_to_end", steps=2, solver="euler"),
    "midpoint": Variant.of("end_to_end", steps=1, solver="midpoint"),
    "lookahead": Variant.of("end_to_end", steps=LOOKAHEAD, solver="euler"),
    "adaptive": Variant.of("adaptive", tolerance=0.3, max_steps=4),
    "dto": Variant.of("end_to_end", steps=SOLVE, solver="euler"),
}


def _posterior_guidance(lookahead: Variant, family: str, when: str = "before", **options: Any) -> Method:
    options = {"rule": "dps", "lookahead": lookahead, "when": when} | options
    return Method("posterior_guidance", family, options, "scale", RESIDUAL, 1)


def _methods() -> dict[str, Method]:
    """Return all methods by name."""
    end = Variant.of("end_to_end", steps=SOLVE, solver="euler")
    pigdm = {"rule": "likelihood", "lookahead": Variant.of("pigdm", data_variance=PIGDM_VARIANCE)}
    source = {"gradient": end, "steps": SOLVE, "optimiser": "adam"}
    controls = {"intervals": SOLVE, "steps": 1}
    methods = {"unguided": Method("posterior_guidance", "unguided", {"scale": 0.0})}
    methods |= {name: _posterior_guidance(setting, "dial") for name, setting in DIAL.items()}
    methods |= {
        "flowgrad": Method("optimise_controls", "other", controls, "learning_rate", CONTROLS, 2, "iterations"),
        "dps": _posterior_guidance(DIAL["greedy"], "baseline", "with"),
        "pigdm": Method("posterior_guidance", "baseline", pigdm, "scale", LIKELIHOOD),
        "d_flow": Method("optimise_source", "baseline", source, "learning_rate", SOURCE, 0, "iterations"),
    }
    return methods


def network_calls(cost: Cost) -> float:
    """Return the evaluations plus products per sample."""
    return cost.evaluations + cost.vjps


def largest_affordable(cost: Callable[[int], float], budget: float) -> int:
    """Find the largest n with cost(n) <= budget, for a cost that is affine in n.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If cost(1) is above the budget.
    """
    first, second = cost(1), cost(2)
    if first > budget:
        raise ValueError(f"budget must allow one step, which takes {first:g}, got {budget:g}")
    return 1 + int((budget - first) // (second - first))


def cost_on_trivial_flow(method: Method, count: int) -> float:
    """Return the network calls of a method with ``count`` steps or iterations; they must not depend on states."""
    flow = from_velocity(lambda x, t: -x, CondOT())
    x = torch.ones(1, 2, dtype=torch.float64)
    loss = HalfSquaredResidual(torch.eye(2, dtype=torch.float64), 2 * x)
    tuned = {method.tuned: 1e-3} if method.tuned else {}
    return network_calls(method.run(flow, loss, x, **tuned, **{method.counted: count}).cost)


def counts(method: Method, budget: int) -> dict[str, int]:
    """Choose the option that the budget decides, for a method whose calls do not depend on its states.

    Returns
    -------
    dict
        {option: count}; empty where the method fixes the option.

    Raises
    ------
    ValueError
        For a budget that is not a whole number above 0, or is below the cost of a single step.
    """
    checks.count("budget", budget)
    if method.counted in method.options:
        return {}
    return {method.counted: largest_affordable(lambda count: cost_on_trivial_flow(method, count), budget)}


def adaptive_steps(method: Method, flow: Flow, loss: Loss, x0: Tensor, budget: int, **options: float) -> dict[str, int]:
    """Return the most steps within the budget on x0 (B, d), for a method whose calls depend on its states."""

    def calls(steps: int) -> float:
        return network_calls(method.run(flow, loss, x0, **options, steps=steps).cost)

    steps = max(1, int(GUESS * budget // calls(GUESS)))
    while steps > 1 and calls(steps) > budget:
        steps -= 1
    return {"steps": steps}


METHODS = _methods()
"""All methods by name; "dto" is end-to-end inside posterior guidance, and "flowgrad" control optimisation."""
FEWEST = counts(METHODS["dto"], BUDGET)["steps"]
EQUAL_STEPS = {
    f"{name}_equal": _posterior_guidance(setting, "equal_steps", steps=FEWEST) for name, setting in DIAL.items()
}
"""The estimators of the dial once more, all with as many steps as end-to-end can afford."""

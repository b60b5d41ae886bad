"""Guided samplers as restorers of images: the methods that are compared, each under one budget of compute.

**The budget** is in evaluations of the network plus products with its Jacobian, per sample. A method's work grows by
the same amount with every step (or iteration), so what one and two steps take on a flow that costs nothing says how
many fit; of them the most are taken. Adaptive lookahead does what its states ask for: its work is measured on the
images on which it is tuned, before with a moderate candidate and after with the chosen one, so on others it may be a
little more or less. Nothing is shared between the gradient of a step and the step itself, for any method, although DPS
and PiGDM could save one evaluation in three.

**The steps.** The dial's rungs and DPS move by DPS's rule, down the gradient of the residual's norm, which at noise
this small is far less stiff than that of the likelihood. The dial moves before each step, as the paper does, DPS with
it. PiGDM, whose gradient holds the spread of what is unknown, follows likelihood steps. Every method has one
hyper-parameter and the same number of candidates for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis import checks
from analysis.cost import Cost
from analysis.flow import Flow, from_velocity
from analysis.guidance import SAMPLERS
from analysis.losses import HalfSquaredResidual, Loss
from analysis.paths import CondOT
from analysis.settings import Variant
from toy_models.experiments.outcome import Method

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


@dataclass(frozen=True)
class Restorer(Method):
    """A method whose option ``counted`` is the most that its budget allows."""

    counted: str = "steps"


def _guided(setting: Variant, family: str, when: str = "before", **fixed: Any) -> Restorer:
    fixed = {"rule": "dps", "lookahead": setting, "when": when} | fixed
    return Restorer("posterior_guidance", family, fixed, "scale", RESIDUAL, 1)


def _methods() -> dict[str, Restorer]:
    """Return all methods by name."""
    end = Variant.of("end_to_end", steps=SOLVE, solver="euler")
    pigdm = {"rule": "likelihood", "lookahead": Variant.of("pigdm", data_variance=PIGDM_VARIANCE)}
    source = {"gradient": end, "steps": SOLVE, "optimiser": "adam"}
    controls = {"intervals": SOLVE, "steps": 1}
    found = {"unguided": Restorer("posterior_guidance", "unguided", {"scale": 0.0})}
    found |= {name: _guided(setting, "dial") for name, setting in DIAL.items()}
    found |= {
        "flowgrad": Restorer("optimise_controls", "other", controls, "learning_rate", CONTROLS, 2, "iterations"),
        "dps": _guided(DIAL["greedy"], "baseline", "with"),
        "pigdm": Restorer("posterior_guidance", "baseline", pigdm, "scale", LIKELIHOOD),
        "d_flow": Restorer("optimise_source", "baseline", source, "learning_rate", SOURCE, 0, "iterations"),
    }
    return found


def work(cost: Cost) -> float:
    """Return evaluations plus products, per sample."""
    return cost.evaluations + cost.vjps


def most(spent: Callable[[int], float], budget: float) -> int:
    """Return the largest count for which an affine ``spent(count)`` is at most the budget.

    Raises ``ValueError`` where not even one fits.
    """
    first, second = spent(1), spent(2)
    if first > budget:
        raise ValueError(f"budget must allow one step, which takes {first:g}, got {budget:g}")
    return 1 + int((budget - first) // (second - first))


def on_nothing(method: Restorer, count: int) -> float:
    """Return the work of a method with a count of steps or iterations, whatever the network."""
    flow = from_velocity(lambda x, t: -x, CondOT())
    x = torch.ones(1, 2, dtype=torch.float64)
    loss = HalfSquaredResidual(torch.eye(2, dtype=torch.float64), 2 * x)
    tuned = {method.tuned: 1e-3} if method.tuned else {}
    return work(SAMPLERS[method.sampler](flow, loss, x, **method.fixed, **tuned, **{method.counted: count}).cost)


def counts(method: Restorer, budget: int) -> dict[str, int]:
    """Return the option that the budget decides, for a method whose work does not depend on its states.

    One that is fixed already stays as it is.
    """
    checks.count("budget", budget)
    if method.counted in method.fixed:
        return {}
    return {method.counted: most(lambda count: on_nothing(method, count), budget)}


def adaptive_steps(
    method: Restorer, flow: Flow, loss: Loss, x0: Tensor, budget: int, **options: float
) -> dict[str, int]:
    """Return the most steps with which a method whose work depends on its states stays in the budget on x0 (B, d)."""

    def spent(steps: int) -> float:
        return work(SAMPLERS[method.sampler](flow, loss, x0, **method.fixed | options, steps=steps).cost)

    steps = max(1, int(GUESS * budget // spent(GUESS)))
    while steps > 1 and spent(steps) > budget:
        steps -= 1
    return {"steps": steps}


METHODS = _methods()
"""All methods by name; "dto" is end-to-end inside posterior guidance, and "flowgrad" control optimisation."""
FEWEST = counts(METHODS["dto"], BUDGET)["steps"]
EQUAL_STEPS = {f"{name}_equal": _guided(setting, "equal_steps", steps=FEWEST) for name, setting in DIAL.items()}
"""The dial's rungs once more, all with as many steps as end-to-end can afford."""

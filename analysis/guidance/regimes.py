"""The regimes in which samplers use a gradient, each with the ranges from which its options are chosen.

- **guidance**: one small move at every step of a solve (DPS, arXiv 2209.14687, and similar samplers);
- **steps**: several moves by an optimiser at every step;
- **source**: one state is optimised until the sample at the end of its solve fits (D-Flow, arXiv 2402.14017);
- **controls**: velocities that are added to the flow's are optimised (FlowGrad, OC-Flow arXiv 2410.18070).

In each of them any estimator can supply the gradient. The ranges are wide, and the same for all estimators, so that a
choice near an end of a range is rare; ``near_end`` detects it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.guidance.dial import Choice
from analysis.guidance.tuning import Range

MOVES = 16


@dataclass(frozen=True)
class Regime:
    """A sampler as a way to use a gradient, with the ranges of its options.

    Attributes
    ----------
    sampler : a name in ``SAMPLERS``
    gradient : its option that takes the estimator, or "" for none
    counted : its option that a budget decides
    options : what is the same for all
    space : what is chosen, as ``analysis.guidance.tuning.trials`` takes it
    draws : whether the sampler draws noise, from an option "generator"
    length : the option that says how long a move is. A trial has that of a run of ``MOVES`` moves; a run of n has
        ``MOVES`` / n times it, so that one trial goes as far in any number of moves
    unscaled : an option and its values with which a move's length does not depend on the number of moves
    """

    sampler: str
    gradient: str
    counted: str
    options: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Sequence[Any] | Range] = field(default_factory=dict)
    draws: bool = False
    length: str = ""
    unscaled: tuple[str, tuple[str, ...]] = ("", ())

    def call(self, trial: Mapping[str, Any], estimator: Choice, noise: float, count: int) -> dict[str, Any]:
        """Translate a trial into the sampler's options, with ``count`` steps or iterations.

        An option named "rule" decides the unit of "scale": for DPS it is the noise level, as its gradient is that of
        the residual over it.

        Returns
        -------
        dict
            The options by name.
        """
        known = {**self.options, **trial, self.counted: count} | ({self.gradient: estimator} if self.gradient else {})
        if self._scales(trial):
            known[self.length] *= MOVES / count
        if known.get("rule") == "dps":
            known["scale"] *= noise
        if known.get("t") == 0:  # noise is where it starts
            known.pop("warm", None)
        return known

    def _scales(self, trial: Mapping[str, Any]) -> bool:
        option, values = self.unscaled
        return bool(self.length) and ({**self.options, **trial}).get(option) not in values

    def longer(self, trial: Mapping[str, Any], factor: float) -> dict[str, Any]:
        """Return a trial whose whole run goes ``factor`` times as far, within the range."""
        limits = self.space.get(self.length)
        if not self._scales(trial) or not isinstance(limits, Range):
            return {**trial}
        return {**trial, self.length: min(max(trial[self.length] * factor, limits.low), limits.high)}

    def near_end(self, trial: Mapping[str, Any]) -> bool:
        """Return whether an option of a trial lies at an end of its range."""
        return any(v.near_end(trial[name]) for name, v in self.space.items() if isinstance(v, Range))


REGIMES: dict[str, Regime] = {
    "guidance": Regime(
        "posterior_guidance",
        "lookahead",
        "steps",
        space={"rule": ("dps", "likelihood", "normalised"), "scale": Range(0.02, 30.0)},
        length="scale",
        unscaled=("rule", ("likelihood",)),
    ),
    "steps": Regime(
        "optimise_steps",
        "gradient",
        "steps",
        space={
            "learning_rate": Range(3e-3, 3.0),
            "optimiser": ("adam", "normalised"),
            "schedule": ("constant", "sigma"),
            "inner": (1, 2, 4, 8),
        },
        length="learning_rate",
    ),
    "source": Regime(
        "optimise_source",
        "gradient",
        "iterations",
        options={"warm": 8, "steps": 32},
        space={
            "learning_rate": Range(0.01, 30.0),
            "optimiser": ("adam", "lbfgs"),
            "prior": (0.0, 0.1, 1.0),
            "t": (0.0, 0.2, 0.4),
        },
        length="learning_rate",
        unscaled=("optimiser", ("lbfgs",)),
    ),
    "controls": Regime(
        "optimise_controls",
        "gradient",
        "iterations",
        options={"intervals": 8, "steps": 2},
        space={"learning_rate": Range(3e-3, 10.0), "optimiser": ("adam", "sgd"), "weight": (0.0, 0.1, 1.0)},
        length="learning_rate",
    ),
}


def gradient_in(regime: str, name: str, estimators: Mapping[str, Choice]) -> Choice:
    """Return the gradient of an estimator in a regime.

    In control optimisation "end_to_end" is the exact adjoint of the controls' own solve, as in FlowGrad and OC-Flow,
    and not an end-to-end solve from the end of every interval, which costs as many times more as there are intervals.

    Returns
    -------
    Choice
        As the regime's sampler takes it.
    """
    return "adjoint" if (regime, name) == ("controls", "end_to_end") else estimators[name]


def count_within(budget: float, one: float, two: float) -> int:
    """Compute how many steps or iterations fit into a budget, given the cost of one and of two.

    Returns
    -------
    int
        0 for none.

    Raises
    ------
    ValueError
        If two cost no more than one.
    """
    if not one < two:
        raise ValueError(f"two must cost more than one, got {one:g} and {two:g}")
    return max(0, 1 + math.floor((budget - one) / (two - one) + 1e-9))

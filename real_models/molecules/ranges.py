"""The ranges from which options are chosen in the four settings in which molecules are guided.

An optimiser or a rule whose moves have lengths of their own is a regime of its own, and is searched separately; from
near the noise Adam and L-BFGS, whose lengths are alike, share one search. On this flow lookahead of few steps overflows
near the noise, so the time from which per-step guidance and controls act is an option, as the start of an optimised
source is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.guidance.regimes import Regime
from analysis.guidance.tuning import Range

SOLVE: dict[str, Any] = {"solver": "midpoint", "steps": 8}  # of unguided molecules, and from an optimised source
BOUND = {"divergence": 30.0}  # times the norm of the noise; molecules have up to three times that norm
INTERVALS = 8  # of the controls
PRIORS = (0.0, 0.01, 0.1)
STOPS = (0.0, 0.005)  # losses at which a molecule stops: never, and at a tenth of the guide's scale
EARLY, LATE = (0.0, 0.1, 0.3), (0.5, 0.7, 0.8, 0.9)  # where an optimised state starts: near its source, or past half
WINDOWS = tuple((start, 1.0) for start in (*EARLY, 0.5, 0.7))
LINE_SEARCH = "lbfgs_line_search"
SOURCE = Regime(
    "optimise_source",
    "gradient",
    "iterations",
    options={**SOLVE, **BOUND, "warm": 4},
    space={
        "learning_rate": Range(0.01, 3.0),
        "optimiser": ("adam", LINE_SEARCH),
        "prior": PRIORS,
        "stop": STOPS,
        "t": EARLY,
    },
    length="learning_rate",
    unscaled=("optimiser", (LINE_SEARCH,)),
)
LATE_SOURCE = tuple(
    replace(
        SOURCE,
        options={**SOURCE.options, "warm": 6},  # steps to the start that are as short as those of the unguided solve
        space={**SOURCE.space, "optimiser": (name,), "t": LATE},
    )
    for name in ("adam", LINE_SEARCH)
)
GUIDANCE = tuple(
    Regime(
        "posterior_guidance",
        "lookahead",
        "steps",
        options=BOUND,
        space={"rule": (rule,), "scale": scales, "window": WINDOWS},
        length="scale",
        unscaled=("rule", ("bounded",)),  # its moves shrink with the steps already
    )
    for rule, scales in (("normalised", Range(0.03, 30)), ("dps", Range(0.003, 10)), ("bounded", Range(0.01, 100)))
)
CONTROLS = tuple(
    Regime(
        "optimise_controls",
        "gradient",
        "iterations",
        options={**BOUND, "intervals": INTERVALS, "steps": 2},
        space={"learning_rate": rates, "optimiser": (optimiser,), "weight": PRIORS, "window": WINDOWS},
        length="learning_rate",
    )
    for optimiser, rates in (("adam", Range(1e-3, 3.0)), ("sgd", Range(1e-4, 1.0)))
)
REGIMES = {"source": (SOURCE,), "late": LATE_SOURCE, "guidance": GUIDANCE, "controls": CONTROLS}

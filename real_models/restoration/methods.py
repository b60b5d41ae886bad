"""How the estimators of the dial restore images in every regime, and published methods as their authors use them.

The regimes are those of ``analysis.guidance.regimes``; in control optimisation end-to-end is the exact adjoint of the
controls' own solve, as FlowGrad and OC-Flow have it. Among the published methods DPS moves with each step, MGPS fits a
law at a midpoint, and PiGDM follows the likelihood of a loss that holds the spread of the unknown image; D-Flow and
OC-Flow are end-to-end in the source and in controls.
"""

from __future__ import annotations

from dataclasses import replace

from analysis.guidance.dial import Choice
from analysis.guidance.regimes import REGIMES, Regime, gradient_in
from analysis.guidance.tuning import Range
from analysis.settings import Variant

SOLVE = 6  # Euler steps of end-to-end, and of the solve from an optimised source
PIGDM_VARIANCE = 0.3  # of a pixel of the digits, on average over pixels
DIVERGENCE = 30.0  # images have about the norm of the noise, so that a state this much longer is lost
DIAL = {
    "greedy": Variant.of("greedy"),
    "two_step_euler": Variant.of("end_to_end", steps=2, solver="euler"),
    "midpoint": Variant.of("end_to_end", steps=1, solver="midpoint"),
    "end_to_end": Variant.of("end_to_end", steps=SOLVE, solver="euler"),
    "adaptive": Variant.of("adaptive", tolerance=0.3, max_steps=4),
}
OWN = {"source": {"warm": 4, "steps": SOLVE}, "controls": {"intervals": SOLVE, "steps": 1}}
SCALES = {"guidance": {"scale": Range(0.03, 100.0)}}  # gradients are shorter, in units of the noise, than on mixtures
SETTINGS = {
    name: replace(
        regime,
        options={**regime.options, **OWN.get(name, {}), "divergence": DIVERGENCE},
        space={**regime.space, **SCALES.get(name, {})},
    )
    for name, regime in REGIMES.items()
}


def _guidance(space: Range, length: str = "", **options: str | float) -> Regime:
    known = options | {"divergence": DIVERGENCE}
    return Regime("posterior_guidance", "lookahead", "steps", known, {"scale": space}, length=length)


PUBLISHED: dict[str, tuple[Regime, Choice]] = {
    "dps": (_guidance(Range(0.1, 100.0), "scale", rule="dps", when="with"), DIAL["greedy"]),
    "mgps": (
        Regime(
            "midpoint_guidance",
            "",
            "steps",
            options={"divergence": DIVERGENCE},
            space={"learning_rate": Range(1e-3, 1.0), "inner": (2, 5, 10), "midpoint": (0.25, 0.5, 0.75)},
            draws=True,
        ),
        "",
    ),
    "pigdm": (_guidance(Range(0.03, 30.0), rule="likelihood"), Variant.of("pigdm", data_variance=PIGDM_VARIANCE)),
}


def chosen(regime: str, name: str) -> tuple[Regime, Choice]:
    """Return a regime and an estimator of the dial in it, or, with regime "published", those of a method."""
    if regime == "published":
        return PUBLISHED[name]
    return SETTINGS[regime], gradient_in(regime, name, DIAL)

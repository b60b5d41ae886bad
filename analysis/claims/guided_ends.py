"""T3 and C4.1 on any flow: the step sizes against which a guided sample's distance is fitted, and the printed one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from analysis.claims.cases import deterministic_case
from analysis.claims.ledger import PRINTED, Case
from analysis.paths import AffinePath
from analysis.reference import EPS

DEGENERATE = "h = gamma_1 - gamma_t as printed, which is infinite where sigma_1 = 0"
OWN_STEP = "h is the step in the solver's own coordinate: 1 - t for steps in t, zeta_t for steps in zeta"
IN_ZETA, IN_T = "h = zeta_t", "h = 1 - t"
STEP_SIZES: dict[str, Callable[[AffinePath, Tensor], Tensor]] = {
    IN_ZETA: lambda path, t: path.zeta(t),
    IN_T: lambda path, t: 1 - t,
}


def own_step(solver: str) -> str:
    """Return the name in ``STEP_SIZES`` of the step that a solver takes, in t or in zeta."""
    return IN_ZETA if solver.endswith("_zeta") else IN_T


def printed_step_case(path: AffinePath, name: str) -> Case:
    """Return the case that the printed step, gamma_1 - gamma_t at t = 1/2, is finite: 1/h is above round-off."""
    h = path.gamma(1.0) - path.gamma(0.5)
    return deterministic_case(PRINTED, DEGENERATE, f"1/h, {name}", float(1 / h), EPS, "at least")

r"""The order of one solver step from t to 1: the exponent of its Jacobian's error in zeta and in h = 1 - t.

Along a trajectory :math:`\bar x = x/\alpha` is an even function of zeta, as p_t depends on zeta^2 alone. Call a step
*mirrored* if it is taken in a coordinate that is odd in zeta, for a state that is x/alpha up to an even factor: zeta
itself on every path, and 1 - t where alpha is even and sigma odd in it (cosine, VE). The field is then odd, so that a
step started from -h takes the same stages as one from h. Its error is even in h, and the exponent p + 1 of a method of
order p rounds up to the next even number. A step in t on another path has exponent p + 1.

CondOT is not mirrored in 1 - t, yet midpoint gains one order: the h^3 error of a second-order step with nodes (0, c_2)
is :math:`(1/6 - c_2/4)\,x''' + (c_2/4)\,u_x x''` (Hairer, Norsett & Wanner, *Solving ODEs I*, section II.1). On CondOT
:math:`x = (1-h)\,\bar x`, :math:`\zeta = h/(1-h)` give :math:`x''' = -3x''` and u_x = 1 at t = 1: in all
:math:`(c_2 - 1/2)\,x''`.
"""

from __future__ import annotations

import math

import torch

from analysis.paths import AffinePath, CondOT
from analysis.solvers import SOLVERS
from analysis.solvers.tableaux import TABLEAUX

IN_ZETA, IN_H = VARIABLES = ("zeta", "1 - t")


def steps_in_zeta(solver: str) -> bool:
    """Return whether a solver steps in zeta; DDIM does, as Euler's method in zeta."""
    return solver == "ddim" or solver.endswith("_zeta")


def mirrored(path: AffinePath) -> bool:
    """Return whether alpha is even and sigma odd in 1 - t, by their values on both sides of t = 1."""
    v = torch.linspace(0, 0.5, 9, dtype=torch.float64)
    even = torch.allclose(path._alpha(1 - v), path._alpha(1 + v), rtol=1e-12)
    return even and torch.allclose(path._sigma(1 - v), -path._sigma(1 + v), rtol=1e-12, atol=1e-15)


def zeta_rate(path: AffinePath) -> float:
    """Return the limit of d log zeta / d log(1 - t) at t = 1: one, or a half where sigma' is infinite there."""
    return 1.0 if math.isfinite(float(path.d_sigma(1.0))) else 0.5


def own_exponent(path: AffinePath, solver: str) -> int:
    """Return the exponent of one step's error in the solver's own coordinate; the module's docstring derives it."""
    order = SOLVERS[solver].order
    if steps_in_zeta(solver) or mirrored(path):
        return 2 * math.ceil((order + 1) / 2)
    gains = isinstance(path, CondOT) and order == 2 and TABLEAUX[solver].c[1] == 1 / 2
    return order + 1 + gains


def exponent(path: AffinePath, solver: str, variable: str) -> float:
    """Return the exponent of one step's error in a variable of ``VARIABLES``, for a solver in any coordinate."""
    own, rate = own_exponent(path, solver), zeta_rate(path)
    if steps_in_zeta(solver):
        return own if variable == IN_ZETA else own * rate
    return own / rate if variable == IN_ZETA else own

r"""Two terms for the lookahead error over n steps and horizon s, and the best horizon that they predict.

.. math:: e(n, s) \approx A\,a(s) + B\,b(n, s):

the target prediction's error at the horizon plus that of an order-p solver up to the horizon. Three forms:

- ``"printed"``: :math:`a = \zeta_s^2,\; b = n^{-p}`. b does not depend on the horizon, so s = 1 is always best;
- ``"interval"``: :math:`b = f^{p+1} n^{-p}`, f = (s - t)/(1 - t): n steps of length proportional to f/n on an interval
  proportional to f (the global error of a one-step method, Hairer, Norsett & Wanner, *Solving ODEs I*, section II.3);
- ``"bounded"``: in addition, :math:`a = \zeta_s^2/(1 + \zeta_s^2)`, which agrees at small zeta and does not exceed the
  gradient itself at large zeta, where x1hat is independent of the state.

A and B are fitted to log errors, so that small and large errors have equal weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from analysis import checks

Form = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
FORMS: dict[str, Form] = {
    "printed": lambda steps, zeta, fraction, p: (zeta**2, steps**-p),
    "interval": lambda steps, zeta, fraction, p: (zeta**2, fraction ** (p + 1) * steps**-p),
    "bounded": lambda steps, zeta, fraction, p: (zeta**2 / (1 + zeta**2), fraction ** (p + 1) * steps**-p),
}
LEAST_CELLS = 4


@dataclass(frozen=True)
class TwoTerm:
    """A fitted pair of terms.

    Attributes
    ----------
    form, order : the name in ``FORMS`` and p
    projection, solver : A and B, each (value, low, high) with the 95 % interval of the regression
    factor : exp of the root mean square of the log residuals: the fit is off by this factor
    cells : how many errors it was fitted to
    """

    form: str
    order: int
    projection: tuple[float, float, float]
    solver: tuple[float, float, float]
    factor: float
    cells: int

    def error(self, steps: np.ndarray, zeta: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Return the predicted errors of cells, given as arrays that broadcast together."""
        a, b = _terms(self.form, steps, zeta, fraction, self.order)
        return self.projection[0] * a + self.solver[0] * b

    def best_horizon(self, steps: int, zeta: np.ndarray, fraction: np.ndarray) -> int:
        """Return the index of the horizon with the least predicted error, by their zeta and fraction (H,)."""
        return int(np.argmin(self.error(np.array(checks.count("steps", steps)), zeta, fraction)))

    def best_within(self, budget: int, evaluations: int, zeta: np.ndarray, fraction: np.ndarray) -> tuple[int, int]:
        """Find the number of steps and the horizon (H,) with the least predicted error within a budget.

        A step costs ``evaluations``, and a horizon short of 1 (zeta above 0) one more, for its projection.

        Returns
        -------
        tuple
            The number of steps, and the index of the horizon.

        Raises
        ------
        ValueError
            If the budget does not pay for one step to any of the horizons.
        """
        zeta = np.asarray(zeta, float)
        steps = (checks.count("budget", budget) - (zeta > 0)) // checks.count("evaluations", evaluations)
        if not np.any(steps >= 1):
            raise ValueError(f"budget must pay for one step of {evaluations} evaluations, got {budget}")
        error = np.where(steps >= 1, self.error(np.maximum(steps, 1), zeta, fraction), np.inf)
        return int(steps[np.argmin(error)]), int(np.argmin(error))


def _terms(
    form: str, steps: np.ndarray, zeta: np.ndarray, fraction: np.ndarray, order: int
) -> tuple[np.ndarray, np.ndarray]:
    n, z, f = (np.asarray(v, float) for v in (steps, zeta, fraction))
    a, b = FORMS[checks.known("form", form, FORMS)](n, z, f, order)
    return tuple(np.broadcast_arrays(a, b))  # type: ignore[return-value]


def fit_two_term(
    form: str, steps: np.ndarray, zeta: np.ndarray, fraction: np.ndarray, error: np.ndarray, order: int
) -> TwoTerm:
    """Fit A and B to the errors of cells (C,), with step counts, zeta at the horizon and (s - t)/(1 - t).

    Returns
    -------
    TwoTerm
        The fit with its intervals.

    Raises
    ------
    ValueError
        For arrays that are not 1-D of one length, errors that are not positive and finite, fewer than four cells, and
        cells in which one of the terms is zero throughout.
    """
    error, order = checks.vector(error, "error"), checks.count("order", order)
    steps, zeta, fraction = (
        checks.vector(v, name) for v, name in ((steps, "steps"), (zeta, "zeta"), (fraction, "fraction"))
    )
    if any(v.shape != error.shape for v in (steps, zeta, fraction)):
        raise ValueError("steps, zeta, fraction and error must be 1-D of equal length")
    if len(error) < LEAST_CELLS or not np.all((error > 0) & np.isfinite(error)):
        raise ValueError(f"error must hold at least {LEAST_CELLS} values, all positive and finite; got {len(error)}")
    terms = np.stack(_terms(form, steps, zeta, fraction, order), 1)  # (C, 2)
    if not np.all(terms.max(0) > 0):
        raise ValueError("cells must hold a horizon short of 1 and one beyond t: each term is zero without")
    logs, spread, factor = _fit_logs(terms, error)
    half = stats.t.ppf(0.975, len(error) - 2) * spread
    a, b = (tuple(np.exp([m, m - h, m + h]).tolist()) for m, h in zip(logs, half, strict=True))
    return TwoTerm(form, order, a, b, factor, len(error))


def _fit_logs(terms: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return log (A, B), their standard errors and the factor of misfit, by least squares on log errors."""
    start, _ = optimize.nnls(terms / error[:, None], np.ones_like(error))
    # A term that relative least squares switches off starts small enough to matter nowhere, and can grow from there.
    least = 1e-3 * np.min(error) / terms.max(0)
    log_error = np.log(error)
    fit = optimize.least_squares(lambda q: np.log(terms @ np.exp(q)) - log_error, np.log(np.maximum(start, least)))
    variance = 2 * fit.cost / (len(error) - 2)
    spread = np.sqrt(variance * np.diag(np.linalg.pinv(fit.jac.T @ fit.jac)))
    return fit.x, spread, float(np.exp(np.sqrt(2 * fit.cost / len(error))))

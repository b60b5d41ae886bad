"""The statements of the theory that the ledger measures, in order: first the paper's, then this project's."""

from __future__ import annotations

from typing import NamedTuple

PAPER = "arXiv 2502.08006"


class Statement(NamedTuple):
    """A sentence of the theory and its source."""

    statement: str
    source: str


def _of_paper(id: str, statement: str) -> Statement:
    return Statement(statement, f"{PAPER} ({id})")


def _of_project(id: str, statement: str) -> Statement:
    return Statement(statement, f"this project ({id})")


_PAPER = {
    "P1": "x_t = (sigma_t/sigma_s) x_s + sigma_t * integral of x1hat dgamma; in x/alpha it is that of x0hat dzeta; the "
    "Taylor expansion of order k in gamma errs by O(h^(k+1)).",
    "T1a": "The greedy gradient is the gradient through one explicit Euler step to t = 1 in gamma (equally in zeta).",
    "T1b": "The greedy gradient is one implicit Euler step of the continuous adjoint, from s = 1 to t in gamma.",
    "P2": "A step x' = x - eta g along the greedy gradient moves the sample by dPhi = -eta DPhi Dx1hat^T grad L.",
    "T3": "If x1hat(x^(n)) -> x_1*, then |Phi(x^(n)) - x_1*| = O(h^2).",
    "C4.1": "If one step of an order-p solver from x^(n) tends to x_1*, then |Phi(x^(n)) - x_1*| = O(h^(p+1)).",
    "T4": "The Jacobian of one Runge-Kutta step of order p from t to 1 errs by O(h^(p+1)), h = 1 - t.",
    "T5": "For dx/dt = u + z(t) the gradient in a z constant on [t, 1] is the integral of the adjoint a_x, and the "
    "functional derivative at s is a_x(s).",
}
_PROJECT = {
    "D1": "Phi - x1hat is the integral of z xbar''(z) dz from 0 to zeta along the trajectory, also with D in front; "
    "hence |g - g*| <= I' |grad L(Phi)| + |Dx1hat| Lip(grad L) I.",
    "D2": "The gradient of <grad L(x1hat), zeta^2 xbar''(zeta)/2> in x, one Jacobian-vector product away, is the "
    "greedy gradient's error to leading order.",
    "D3": "For one Gaussian greedy over ideal is 1/sqrt(1 + zeta^2/lambda) along an eigen-direction of variance "
    "lambda; its error tends to -sigma'(1)^2 h^2/(2 lambda), h = 1 - t.",
    "D4": "xbar is even in zeta, so that single steps into t = 1 superconverge; slopes in 1 - t: CondOT Euler 2, Heun "
    "3, midpoint 4, RK4 5; cosine 2, 4, 4, 6; DDIM on linear VP about 1.6, and 2 in zeta.",
    "D5": "The gradient through n steps of a solver of order p errs by O(n^-p).",
    "D6": "Over n steps of a solver of order p to a horizon s, lookahead errs by about A zeta_s^2 + B n^-p: at a fixed "
    "budget there is a best horizon.",
    "D7": "The adjoint that re-integrates x backward has an O(1) inconsistency with the gradient of the discrete map.",
}
STATEMENTS: dict[str, Statement] = {id: _of_paper(id, text) for id, text in _PAPER.items()} | {
    id: _of_project(id, text) for id, text in _PROJECT.items()
}


def place(id: str) -> tuple[int, str]:
    """Return the sort key of a claim in the ledger: the order of ``STATEMENTS``, then all others by name."""
    order = list(STATEMENTS)
    return order.index(id) if id in order else len(order), id

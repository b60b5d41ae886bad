r"""An a-priori bound of the greedy gradient's error, from the mixture's constants and the state alone.

Constants of a mixture: the extreme eigenvalues :math:`\lambda \le \Lambda` of all covariances, the largest distance
:math:`\Delta` between means, the largest weight w, the dimension d. The state enters through
:math:`\rho = \max_k |y - \mu_k|`. Notation of ``toy_models.bounds.stacked``, with :math:`\delta = a - S` under the
responsibilities, and at a given z

.. math:: p = \frac{1}{\lambda + z^2}, \quad \pi = p - \frac{1}{\Lambda + z^2}, \quad b = \rho p, \quad
          D = \pi\rho + \Delta p, \quad \tau = d\pi .

1. :math:`\|P_k\| \le p`, :math:`\|P_k - P_l\| \le \pi`, :math:`|\mathrm{tr} P_k - \mathrm{tr} P_l| \le \tau`,
   :math:`|S| \le b`, and :math:`a_k - a_l = (P_l - P_k)(y - \mu_l) + P_k(\mu_k - \mu_l)`, so :math:`|\delta| \le D`.
2. The heaviest component's responsibility is at least :math:`1/(1 + q)`,
   :math:`\log q = \log\frac{1-w}{w} + \frac{d}{2}\log\frac{\Lambda + z^2}{\lambda + z^2} + \frac{\rho^2 p}{2}`.
   With :math:`u = q/(1+q)`: :math:`E|\delta|^2 = \frac12 E|a - a'|^2 \le \kappa D^2`, :math:`\kappa = \min(1/2, u)`;
   :math:`\|\mathrm{Cov}(a)\| \le \kappa_1 D^2`, :math:`\kappa_1 = \min(1/4, u)` (Popoviciu);
   :math:`E|\delta| \le \epsilon D`, :math:`\epsilon = \min(\sqrt\kappa, 2u)`, and likewise
   :math:`E\|P - EP\| \le \omega\pi`, :math:`\omega = \min(1, 2u)`. One component has u = 0.
3. In these moments
   :math:`y'' = -(I - z^2 EP) S - z^2 (E[\delta|\delta|^2] + \mathrm{Cov}(a) S - \mathrm{Cov}(a, \mathrm{tr} P)
   - 2\,\mathrm{Cov}(P, a))`, where :math:`\|I - z^2 EP\| \le \Lambda/(\Lambda + z^2) =: s`, so

   .. math:: |y''| \le s b + z^2 (\kappa D^3 + \kappa_1 D^2 b + \tau\epsilon D + 2\pi\epsilon D) .

4. Derivatives: :math:`D E[f] = E[Df] + E[f \delta^T]`, :math:`DS = H`, :math:`D\delta = -(P - EP) - \mathrm{Cov}(a)`,
   so :math:`\|H\| \le \eta := \max(p, \kappa_1 D^2)`, :math:`\|D\delta\| \le e := \pi + \kappa_1 D^2`, and term by term

   .. math:: \|D_y y''\| \le s\eta + z^2 [\pi b\epsilon D + (3\kappa D^2 e + \kappa D^4)
       + (\kappa_1 D^2\eta + 2\epsilon D e b + \kappa D^3 b) + (\omega\tau e + \tau\kappa D^2)
       + 2(\omega\pi e + \pi\kappa D^2)] .

5. Along a trajectory towards z = 0, :math:`\dot\rho \le (\Delta z p - z\rho/(\Lambda + z^2))`, hence
   :math:`\rho(z) \le \rho(\zeta)\sqrt{(\Lambda + z^2)/(\Lambda + \zeta^2)}
   + \frac{\Delta}{2}\log\frac{\lambda + \zeta^2}{\lambda + z^2}`; and
   :math:`\|J(z)\| \le \exp\int_z^\zeta s (\kappa_1 D^2 - 1/(\Lambda + s^2)) ds`, the largest eigenvalue of H being at
   most :math:`\kappa_1 D^2 - 1/(\Lambda + z^2)`.
6. Insert in D1 (``analysis.bounds.remainder``), with :math:`|\nabla L(\Phi)| \le |\nabla L(\hat x_1)| + \ell |\Phi -
\hat x_1|`
   and :math:`\|D\hat x_1\| = \|I + z^2 H\| \le s + z^2\kappa_1 D^2`. The error is also at most the sum of the two
   gradients' norms; the bound is the smaller of both.

All integrals are upper sums over panels in z: what falls with z is taken at a panel's lower end, :math:`z^2` at its
upper. Source: this project; Popoviciu's inequality on variances; Gronwall's inequality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toy_models.bounds.stacked import StackedMixtures

PANELS = 128


@dataclass(frozen=True)
class Constants:
    """The constants of M mixtures that the bound uses: tensors (M, 1), and the numbers K and d."""

    smallest: Tensor
    largest: Tensor
    spread: Tensor
    log_odds: Tensor  # of the other components against the heaviest
    count: int
    dim: int

    @classmethod
    def of(cls, mixtures: StackedMixtures) -> Constants:
        """Compute the constants of mixtures."""
        values, log_weights = mixtures.eigenvalues, mixtures.log_weights.sort(1, descending=True).values
        spread = torch.cdist(mixtures.means, mixtures.means).amax((1, 2))
        odds = log_weights[:, 1:].logsumexp(1) - log_weights[:, 0]
        smallest, largest, far, log_odds = (
            c[:, None] for c in (values.amin((1, 2)), values.amax((1, 2)), spread, odds)
        )
        return cls(smallest, largest, far, log_odds, *values.shape[1:])

    def radius(self, rho: Tensor, zeta: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
        """Bound the distance to the means for z in [bottom, top], given that at zeta (step 5)."""
        shrink = ((self.largest + top**2) / (self.largest + zeta**2)).sqrt()
        return rho * shrink + self.spread / 2 * ((self.smallest + zeta**2) / (self.smallest + bottom**2)).log()

    def moments(self, rho: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Bound the moments (steps 1 and 2) at z and beyond, for states within rho of every mean."""
        p, several = 1 / (self.smallest + z**2), float(self.count > 1)
        gap = (p - 1 / (self.largest + z**2)) * several
        u = (self.log_odds + self.dim / 2 * ((self.largest + z**2) * p).log() + rho**2 * p / 2).sigmoid()
        kappa, pair = u.clamp(max=0.5), (2 * u).clamp(max=1.0)
        moments = {"p": p, "pi": gap, "b": rho * p, "D": (gap * rho + self.spread * p) * several, "tau": self.dim * gap}
        moments |= {"kappa": kappa, "kappa1": u.clamp(max=0.25), "eps": torch.minimum(kappa.sqrt(), 2 * u)}
        return moments | {"omega": pair, "s": self.largest / (self.largest + z**2)}


def curvature(m: dict[str, Tensor], z2: Tensor) -> Tensor:
    """Bound |y''| (step 3), for z^2 of at most ``z2``."""
    d = m["D"]
    spread = m["kappa"] * d**3 + m["kappa1"] * d**2 * m["b"] + (m["tau"] + 2 * m["pi"]) * m["eps"] * d
    return m["s"] * m["b"] + z2 * spread


def curvature_jacobian(m: dict[str, Tensor], z2: Tensor) -> Tensor:
    """Bound the norm of D_y y'' (step 4), for z^2 of at most ``z2``."""
    d, b, kappa, eps = m["D"], m["b"], m["kappa"], m["eps"]
    cov = m["kappa1"] * d**2
    eta, e = torch.maximum(m["p"], cov), m["pi"] + cov
    cubic = 3 * kappa * d**2 * e + kappa * d**4
    linear = cov * eta + 2 * eps * d * e * b + kappa * d**3 * b
    traces = m["omega"] * m["tau"] * e + m["tau"] * kappa * d**2
    covariances = 2 * (m["omega"] * m["pi"] * e + m["pi"] * kappa * d**2)
    return m["s"] * eta + z2 * (m["pi"] * b * eps * d + cubic + linear + traces + covariances)


def a_priori(
    mixtures: StackedMixtures, y: Tensor, zeta: Tensor, gradient_norm: Tensor, lipschitz: Tensor | float
) -> Tensor:
    """Bound |g - g*| in y from the mixtures' constants and the states.

    Parameters
    ----------
    y, zeta : states (M, B, d) and their z (M,), positive
    gradient_norm : (M, B), |grad L| at the target prediction
    lipschitz : a Lipschitz constant of grad L, a float or broadcastable to (M, B)

    Returns
    -------
    Tensor
        (M, B), infinite where the constants allow no bound.
    """
    constants = Constants.of(mixtures)
    rho, zeta = torch.cdist(y, mixtures.means).amax(2), zeta[:, None]
    bottom, top = _panels(constants.smallest.sqrt(), zeta)
    m = constants.moments(constants.radius(rho, zeta, bottom, top), bottom)
    mass = (top**2 - bottom**2) / 2
    growth = (m["kappa1"] * m["D"] ** 2 - 1 / (constants.largest + top**2)) * mass
    amplified = growth.flip(0).cumsum(0).flip(0)  # log |J| at a panel's lower end; inside it may not have shrunk yet
    curved = (mass * curvature(m, top**2)).sum(0)
    spread = (mass * curvature_jacobian(m, top**2) * (amplified - growth.clamp(max=0)).exp()).sum(0)
    here = constants.moments(rho, zeta)
    target = here["s"] + zeta**2 * here["kappa1"] * here["D"] ** 2
    end = gradient_norm + lipschitz * curved
    remainder = spread * end + target * lipschitz * curved
    crude = target * gradient_norm + amplified[0].exp() * end
    return torch.minimum(remainder, crude).nan_to_num(torch.inf, torch.inf)


def _panels(low: Tensor, zeta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends (PANELS, M, 1) of panels of [0, zeta], of equal width in asinh(z / low)."""
    nodes = torch.linspace(0, 1, PANELS + 1, dtype=zeta.dtype)[:, None, None]
    z = low * torch.sinh(nodes * torch.asinh(zeta / low))
    return z[:-1], z[1:]

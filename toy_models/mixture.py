r"""Gaussian mixtures and the flows they induce, in closed form.

:math:`p_1 = \sum_k w_k N(\mu_k, C_k)`, :math:`C_k = U_k \mathrm{diag}(\lambda_k) U_k^T`. Along an affine path
:math:`p_t = \sum_k w_k N(\alpha\mu_k, S_k)` with :math:`S_k = \alpha^2 C_k + \sigma^2 I`. In the eigenbasis of each
component, with :math:`q_k = S_k^{-1}(x - \alpha\mu_k)` and responsibilities :math:`r_k`,

.. math::
    e_k = \mu_k + \alpha C_k q_k, \quad \epsilon_k = \sigma q_k, \quad v_k = a e_k + b \epsilon_k, \quad
    u = \sum_k r_k v_k, \quad
    Du = \sum_k r_k (a \alpha C_k + b \sigma I) S_k^{-1} - \sum_k r_k (v_k - u)(q_k - \bar q)^T

for any readout (a, b): no division by alpha or sigma. Every such Du is symmetric, being a combination of Hessians of
log p_t and the identity, so one product serves as vector-Jacobian and Jacobian-vector product: it costs two rotations.
Source: Bayes' rule for Gaussian mixtures; the derivative of the responsibilities is r_k (qbar - q_k).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow, Pullback
from analysis.paths import AffinePath, CondOT, Readout

LOG_2PI = math.log(2 * math.pi)


def check_weights(weights: Tensor, name: str = "weights") -> Tensor:
    """Return float64 ``weights`` (K,), positive and summing to one within 1e-9 (then exactly normalised)."""
    weights = checks.finite(name, torch.as_tensor(weights, dtype=torch.float64))
    if weights.ndim != 1 or not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-9:
        raise ValueError(f"{name} must be a 1-D distribution: positive, with sum 1; got {weights.tolist()}")
    return weights / weights.sum()


def fold(x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Tensor, Readout]:
    """Fold states (B, d) whose times and coefficients repeat in equal blocks into (blocks, n, d), times (blocks, 1).

    What depends on time alone is then computed once per block. Anything else comes back as it is.
    """
    if t.ndim != 1 or x.ndim != 2 or t.shape[0] != x.shape[0]:
        return x, t, readout
    key = torch.stack([c.expand(t.shape) for c in (t, *readout)])
    blocks = 1 + int((key[:, 1:] != key[:, :-1]).any(0).sum())
    if len(x) % blocks or not bool(((cut := key.unflatten(1, (blocks, -1))) == cut[..., :1]).all()):
        return x, t, readout
    t, a, b = cut[..., :1].unbind()
    return x.unflatten(0, (blocks, -1)), t, (a, b)


class GaussianMixture:
    """A mixture of K full-covariance Gaussians in d dimensions, eigen-decomposed once, in float64.

    Parameters
    ----------
    weights : (K,), a distribution
    means : (K, d)
    covariances : (K, d, d), symmetric positive definite

    Raises ``ValueError`` naming the argument for shapes that do not agree, NaN, weights that are no distribution, and
    covariances that are not symmetric (to 1e-10 relative) or not positive definite (to round-off).
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.weights = check_weights(weights)
        self.means = checks.finite("means", torch.as_tensor(means, dtype=torch.float64))
        covariances = checks.finite("covariances", torch.as_tensor(covariances, dtype=torch.float64))
        k = len(self.weights)
        if self.means.ndim != 2 or len(self.means) != k:
            raise ValueError(f"means must have shape (K, d) with K = {k}, got {tuple(self.means.shape)}")
        if tuple(covariances.shape) != (k, self.dim, self.dim):
            expected = (k, self.dim, self.dim)
            raise ValueError(f"covariances must have shape {expected}, got {tuple(covariances.shape)}")
        scale = covariances.abs().amax((1, 2), keepdim=True)
        if bool(((covariances - covariances.mT).abs() > 1e-10 * scale).any()):
            raise ValueError("covariances must be symmetric")
        self.eigenvalues, self.eigenvectors = torch.linalg.eigh((covariances + covariances.mT) / 2)
        round_off = self.dim * torch.finfo(torch.float64).eps * self.eigenvalues[:, -1:]
        if bool((self.eigenvalues <= round_off).any()):
            worst = float(self.eigenvalues.min())
            raise ValueError(f"covariances must be positive definite; the smallest eigenvalue is {worst:.3g}")

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[1]

    @property
    def covariances(self) -> Tensor:
        """The covariances (K, d, d)."""
        return (self.eigenvectors * self.eigenvalues[:, None, :]) @ self.eigenvectors.mT

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples (n, d), drawn with an explicit CPU generator."""
        k = torch.multinomial(self.weights.cpu(), checks.count("n", n), replacement=True, generator=generator)
        noise = torch.randn(n, self.dim, dtype=torch.float64, generator=generator).to(self.means.device)
        k = k.to(self.means.device)
        return self.means[k] + torch.einsum("nij,nj->ni", self.eigenvectors[k], self.eigenvalues[k].sqrt() * noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (B,) at x (B, d), in nats."""
        return MixtureFlow(self, CondOT()).log_prob(x, 1.0)


class MixtureFlow(Flow):
    """The flow of a Gaussian mixture along an affine path.

    States may carry any leading axes, x (..., d), with times t broadcastable to them and of equal rank; the
    variances S_k are then computed once per distinct time and not once per sample.
    """

    def __init__(
        self,
        mixture: GaussianMixture,
        path: AffinePath,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ) -> None:
        self.mixture, self.path, self.event_shape = mixture, path, (mixture.dim,)
        self.dtype, self.device = dtype, device
        d, k, basis = mixture.dim, len(mixture.weights), mixture.eigenvectors
        means = torch.einsum("kij,ki->kj", basis, mixture.means)
        self._into = basis.permute(1, 0, 2).reshape(d, k * d).to(device, dtype)  # x @ _into rotates into all bases
        self._means, self._variances = means.to(device, dtype), mixture.eigenvalues.to(device, dtype)
        self._log_weights = mixture.weights.log().to(device, dtype)

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow of the same mixture along another path."""
        return MixtureFlow(self.mixture, path, self.dtype, self.device)

    def to(self, dtype: torch.dtype, device: str) -> MixtureFlow:
        """Return the flow in another dtype or on another device, without an exact map."""
        return MixtureFlow(self.mixture, self.path, dtype, device)

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout, (..., d)."""
        return self.predict_vjp(x, t, readout)[0]

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout and its pullback, which holds (..., K, d) intermediates."""
        shape = x.shape
        x, t, (a, b) = fold(x, t, readout)
        r, q, precision, gain = self._components(x, t, a, b)
        v = torch.addcmul(self._coefficient(a) * self._means, gain, q)
        value = self._back(r[..., None] * v)

        def pull(w: Tensor) -> Tensor:
            w = w.reshape(x.shape)
            rotated = self._rotate(w)
            spread = (rotated * v).sum(-1) - (w * value).sum(-1, keepdim=True)
            return self._back(r[..., None] * (gain * precision * rotated - spread[..., None] * q)).reshape(shape)

        return value.reshape(shape), pull

    def predict_jvp(self, x: Tensor, t: Tensor, readout: Readout, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the readout and J tangent; J is symmetric."""
        value, pull = self.predict_vjp(x, t, readout)
        return value, pull(tangent)

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x), (B,), in nats."""
        x, t = self.checked(x, t)
        return torch.logsumexp(self._joint(x, t)[0], -1) - self.mixture.dim * LOG_2PI / 2

    def posterior_covariance(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return Var[X_1 | X_t = x], (B, d, d): within components, plus the spread of their posterior means."""
        x, t = self.checked(x, t)
        one = torch.ones_like(t)
        r, q, precision, gain = self._components(x, t, one, 0 * one)
        within = r[..., None] * self._coefficient(self.path.sigma(t)) ** 2 * self._variances * precision
        basis = self._into.reshape(self.mixture.dim, *self._means.shape)
        e = torch.einsum("ikj,bkj->bki", basis, self._means + gain * q)
        e = e - torch.einsum("bk,bki->bi", r, e)[:, None]
        spread = torch.einsum("bk,bki,bkj->bij", r, e, e)
        return torch.einsum("ikl,bkl,jkl->bij", basis, within, basis) + spread

    def divergence(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the trace of the readout's Jacobian, (...)."""
        batch = x.shape[:-1]
        x, t, (a, b) = fold(x, t, readout)
        r, q, precision, gain = self._components(x, t, a, b)
        v = torch.addcmul(self._coefficient(a) * self._means, gain, q)
        value, mean_q = self._back(r[..., None] * v), self._back(r[..., None] * q)
        traces = (gain * precision).sum(-1) - (v * q).sum(-1)
        return ((r * traces).sum(-1) + (value * mean_q).sum(-1)).reshape(batch)

    def _rotate(self, x: Tensor) -> Tensor:
        return (x @ self._into).unflatten(-1, self._means.shape)

    def _back(self, rotated: Tensor) -> Tensor:
        return rotated.flatten(-2) @ self._into.T

    def _coefficient(self, value: Tensor) -> Tensor:
        return (value[..., None, None] if value.ndim else value).to(self._means)

    def _marginal_variances(self, t: Tensor) -> Tensor:
        alpha, sigma = self._coefficient(self.path.alpha(t)), self._coefficient(self.path.sigma(t))
        return alpha**2 * self._variances + sigma**2

    def _joint(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log(w_k N_k) less the constant, (..., K), q_k and the eigenvalues of S_k^{-1}, (..., K, d)."""
        variance = self._marginal_variances(t)
        precision = 1 / variance
        y = self._rotate(x) - self._coefficient(self.path.alpha(t)) * self._means
        q = y * precision
        return self._log_weights - ((y * q).sum(-1) + variance.log().sum(-1)) / 2, q, precision

    def _components(self, x: Tensor, t: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return r_k (..., K), and q_k, S_k^{-1}, a alpha C_k + b sigma I in the eigenbases, (..., K, d)."""
        log_joint, q, precision = self._joint(x, t)
        alpha, sigma = self._coefficient(self.path.alpha(t)), self._coefficient(self.path.sigma(t))
        gain = self._coefficient(a) * alpha * self._variances + self._coefficient(b) * sigma
        return log_joint.softmax(-1), q, precision, gain

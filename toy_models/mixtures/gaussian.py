r"""Gaussian mixtures and the flows they induce, in closed form.

:math:`p_1 = \sum_k w_k N(\mu_k, C_k)`, :math:`C_k = U_k \mathrm{diag}(\lambda_k) U_k^T`. Along an affine path
:math:`p_t = \sum_k w_k N(\alpha\mu_k, S_k)` with :math:`S_k = \alpha^2 C_k + \sigma^2 I`. With
:math:`q_k = S_k^{-1}(x - \alpha\mu_k)` and responsibilities :math:`r_k`, a readout
:math:`a\,\hat x_1 - c \nabla\log p_t` is

.. math::
    u = \sum_k r_k v_k, \quad v_k = a\mu_k + (a\alpha C_k + cI) q_k, \quad
    Du = \sum_k r_k (a \alpha C_k + c I) S_k^{-1} - \sum_k r_k (v_k - u)(q_k - \bar q)^T :

no division by alpha or sigma. Every such Du is symmetric, being a combination of Hessians of log p_t and the identity,
so one product serves as vector-Jacobian and Jacobian-vector product: it costs two rotations. Source: Bayes' rule for
Gaussian mixtures; the derivative of the responsibilities is r_k (qbar - q_k).

Components are stored in their eigenbases, whitened, :math:`y_k = S_k^{-1/2}(x - \alpha\mu_k)`. Where few sets of
diagonal factors serve many states, they are multiplied into the bases, which saves passes over (..., K, d) arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow, Pullback
from analysis.operators import LinearOperator
from analysis.paths import AffinePath, CondOT, Readout
from analysis.plan import StepPlan
from toy_models.mixtures import compiled_solve, fused_solve
from toy_models.mixtures.conditioning import Components, measured, update
from toy_models.mixtures.eigenbasis import Eigenbasis
from toy_models.mixtures.fused_matrices import fold

LOG_2PI = math.log(2 * math.pi)


def check_weights(weights: Tensor, name: str = "weights") -> Tensor:
    """Check that weights (K,) are positive and have sum 1, within 1e-9 (1e-6 for float32).

    Returns
    -------
    Tensor
        The weights (K,) in float64, with sum 1.

    Raises
    ------
    ValueError
        For weights that are not such a distribution.
    """
    slack = 1e-6 if "float32" in str(getattr(weights, "dtype", "")) else 1e-9
    weights = checks.array(weights, name)
    if weights.ndim != 1 or not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > slack:
        raise ValueError(f"{name} must be a 1-D distribution: positive, with sum 1; got {weights.tolist()}")
    return weights / weights.sum()


def _column(coefficient: Tensor) -> Tensor:
    return coefficient[..., None] if coefficient.ndim else coefficient


def _few(scale: Tensor, x: Tensor) -> bool:
    """Return whether to scale the bases instead of the rotated rows: few scales (..., K, d), many rows of x."""
    return (scale.ndim == 2 or scale.shape[-3] == 1) and scale.shape[:-2].numel() * x.shape[-1] <= x.shape[:-1].numel()


class GaussianMixture:
    """A mixture of K full-covariance Gaussians in d dimensions, eigen-decomposed once, in float64.

    Parameters
    ----------
    weights : (K,), a distribution
    means : (K, d)
    covariances : (K, d, d), symmetric positive definite

    Raises ``ValueError`` naming the argument for shapes that do not agree, NaN, weights that are no distribution, and
    covariances that are not symmetric (to 1e-10 relative) or not positive definite (to round-off).

    Raises
    ------
    ValueError
        For shapes that do not agree, NaN, weights that are not a distribution, and covariances that are not symmetric
        (to 1e-10 relative) or not positive definite (to round-off); the message names the argument.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.weights = check_weights(weights)
        self.means = checks.array(means, "means")
        covariances = checks.array(covariances, "covariances")
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
            raise ValueError(
                f"covariances must be positive definite, with eigenvalues from {self.eigenvalues.min():.3g}"
            )

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[1]

    @property
    def covariances(self) -> Tensor:
        """The covariances (K, d, d)."""
        return (self.eigenvectors * self.eigenvalues[:, None, :]) @ self.eigenvectors.mT

    def components(self) -> Components:
        """Return weights, means and covariances in the form that ``conditioning.update`` takes."""
        shared = self.weights.log()[None], self.means[None]
        return Components(*shared, self.eigenvalues.sqrt(), self.eigenvectors)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples (n, d), drawn with an explicit CPU generator."""
        k = torch.multinomial(
            self.weights.cpu(), checks.count("n", n), replacement=True, generator=checks.generator(generator)
        )
        noise = torch.randn(n, self.dim, dtype=torch.float64, generator=generator).to(self.means.device)
        k = k.to(self.means.device)
        return self.means[k] + torch.einsum("nij,nj->ni", self.eigenvectors[k], self.eigenvalues[k].sqrt() * noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (B,) at x (B, d), in nats."""
        return MixtureFlow(self, CondOT()).log_prob(x, 1.0)

    def condition(self, A: Tensor | LinearOperator, y: Tensor, noise_covariance: Tensor) -> GaussianMixture:
        """Condition X_1 on y = A X_1 + N(0, noise_covariance), as ``toy_models.posteriors.condition`` does.

        Returns
        -------
        GaussianMixture
            Without components whose weight underflows.

        Raises
        ------
        ValueError
            Unless y has shape (m,), and as ``conditioning.measured`` does.
        """
        y = checks.array(y, "y")
        if y.ndim != 1:
            raise ValueError(f"y must have shape (m,), got {tuple(y.shape)}")
        rows, values = measured(self.dim, A, y, noise_covariance)
        updated = update(self.components(), rows, values[None])
        weights = updated.log_weights[0].exp()
        positive = weights > 0
        eye = torch.eye(self.dim, dtype=torch.float64).expand(int(positive.sum()), -1, -1)
        posterior = GaussianMixture(weights[positive] / weights[positive].sum(), updated.means[0, positive], eye)
        # The constructor decomposes dense covariances, which would lose what the square roots kept.
        posterior.eigenvalues, posterior.eigenvectors = (
            updated.deviations[positive].square(),
            updated.directions[positive],
        )
        return posterior


class MixtureFlow(Flow):
    """The flow of a Gaussian mixture along an affine path.

    States may carry any leading axes, x (..., d), with times t broadcastable to them and of equal rank; the
    variances S_k are then computed once per distinct time and not once per sample.

    Raises
    ------
    TypeError
        For a mixture or path of another kind.
    """

    dtype: torch.dtype

    def __init__(
        self,
        mixture: GaussianMixture,
        path: AffinePath,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ) -> None:
        if not isinstance(mixture, GaussianMixture):
            raise TypeError(f"mixture must be a GaussianMixture, got {checks.kind(mixture)}")
        self.mixture, self.path, self.event_shape = mixture, checks.path(path), (mixture.dim,)
        self.dtype, self.device = dtype, device
        self.basis = Eigenbasis.of(
            mixture.weights, mixture.means, mixture.eigenvalues, mixture.eigenvectors, dtype, device
        )

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow of the same mixture along another path."""
        return MixtureFlow(self.mixture, path, self.dtype, self.device)

    def to(self, dtype: torch.dtype, device: str) -> MixtureFlow:
        """Return the flow in another dtype or on another device, without its exact map."""
        return MixtureFlow(self.mixture, self.path, dtype, device)

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout (..., d) at x (..., d) and t (...)."""
        return self.predict_vjp(x, t, readout)[0]

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout (..., d) and its pullback, which stores (..., K, d) intermediates."""
        shape = x.shape
        x, t, a, c = fold(x, t, readout)
        r, y, root, gain = self._components(x, t, a, c)
        value = self._mean(r, y, a, gain)

        def pull(w: Tensor) -> Tensor:
            w = w.reshape(x.shape)
            rotated = self._rotate(w, gain)
            along = torch.linalg.vecdot(rotated, y) + _column(a).to(r) * (w @ self.basis.centres.T)
            spread = (along - (w * value).sum(-1, keepdim=True))[..., None]
            return self._back(r[..., None] * torch.addcmul(rotated, spread, y, value=-1), root).reshape(shape)

        return value.reshape(shape), pull

    def solve_vjp(self, x: Tensor, plans: Sequence[StepPlan]) -> tuple[Tensor, Pullback] | None:
        """Return the ends (plans, B, d) of whole solves and their pullback: compiled loops, or else matrix products."""
        compiled = compiled_solve.solve_vjp(self.basis, self.path, x, plans)
        return fused_solve.solve_vjp(self.basis, self.path, x, plans) if compiled is None else compiled

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x) (B,) in nats, at x (B, d)."""
        x, t = self.checked(x, t)
        return torch.logsumexp(self._joint(x, t)[0], -1) - self.mixture.dim * LOG_2PI / 2

    def posterior_covariance(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return Var[X_1 | X_t = x] (B, d, d): within components, plus the spread of their posterior means."""
        x, t = self.checked(x, t)
        one = torch.ones_like(t)
        r, y, root, gain = self._components(x, t, one, 0 * one)
        within = r[..., None] * self._coefficient(self.path.sigma(t)) ** 2 * self.basis.variances * root**2
        basis = self.basis.into.reshape(self.mixture.dim, *self.basis.means.shape)
        e = self.basis.centres + torch.einsum("ikj,bkj->bki", basis, gain * y)
        e = e - torch.einsum("bk,bki->bi", r, e)[:, None]
        spread = torch.einsum("bk,bki,bkj->bij", r, e, e)
        return torch.einsum("ikl,bkl,jkl->bij", basis, within, basis) + spread

    def divergence(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the trace (...) of the readout's Jacobian at x (..., d)."""
        batch = x.shape[:-1]
        x, t, a, c = fold(x, t, readout)
        r, y, root, gain = self._components(x, t, a, c)
        value, mean_q = self._mean(r, y, a, gain), self._back(r[..., None] * y, root)
        per_axis = root * (gain * (1 - y.square()) - self._coefficient(a) * self.basis.means * y)
        return ((r[..., None] * per_axis).sum((-1, -2)) + (value * mean_q).sum(-1)).reshape(batch)

    def _mean(self, r: Tensor, y: Tensor, a: Tensor, gain: Tensor) -> Tensor:
        """Return u = sum_k r_k (a mu_k + U_k gain y_k), (..., d)."""
        return _column(a).to(r) * (r @ self.basis.centres) + self._back(r[..., None] * y, gain)

    def _rotate(self, x: Tensor, scale: Tensor) -> Tensor:
        """Return scale * (U_k^T x), (..., K, d)."""
        if _few(scale, x):
            return (x @ (self.basis.into * scale.flatten(-2))).unflatten(-1, self.basis.means.shape)
        return (x @ self.basis.into).unflatten(-1, self.basis.means.shape) * scale

    def _back(self, rotated: Tensor, scale: Tensor) -> Tensor:
        """Return sum_k U_k (scale * rotated_k), (..., d)."""
        if _few(scale, rotated[..., 0, :]):
            return rotated.flatten(-2) @ (self.basis.into * scale.flatten(-2)).mT
        return (rotated * scale).flatten(-2) @ self.basis.into.T

    def _coefficient(self, value: Tensor) -> Tensor:
        return (value[..., None, None] if value.ndim else value).to(self.basis.means)

    def _marginal_variances(self, t: Tensor) -> Tensor:
        alpha, sigma = self._coefficient(self.path.alpha(t)), self._coefficient(self.path.sigma(t))
        return alpha**2 * self.basis.variances + sigma**2

    def _joint(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log(w_k N_k) (..., K) without its constant, y_k = S_k^{-1/2}(x - alpha mu_k), and S_k^{-1/2}."""
        variance = self._marginal_variances(t)
        root = variance.rsqrt()
        y = self._rotate(x, root) - self._coefficient(self.path.alpha(t)) * root * self.basis.means
        return self.basis.log_weights - (torch.linalg.vecdot(y, y) + variance.log().sum(-1)) / 2, y, root

    def _components(self, x: Tensor, t: Tensor, a: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return r_k (..., K); y_k, S_k^{-1/2} and (a alpha C_k + c I) S_k^{-1/2} in the eigenbases (..., K, d)."""
        log_joint, y, root = self._joint(x, t)
        gain = (self._coefficient(a * self.path.alpha(t)) * self.basis.variances + self._coefficient(c)) * root
        return fused_solve.responsibilities(log_joint, -1), y, root, gain

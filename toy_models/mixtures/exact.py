r"""Flows whose map :math:`\Phi_{t,1}` has a closed form, so that their ideal gradients are exact.

1. One Gaussian: :math:`\Phi(x) = \alpha_1\mu + S_1^{1/2} S_t^{-1/2} (x - \alpha_t\mu)`.
2. A product of 1-D mixtures, rotated: axis by axis :math:`\Phi = F_1^{-1}(F_t(z))`, :math:`\Phi' = p_t(z)/p_1(\Phi)`.
3. A zero-mean isotropic scale mixture: the same with the distribution G of the radius.

All three hold because a one-dimensional flow (along an eigenvector, an axis, a radius) preserves order, hence mass.
Times t = 1 mean alpha_1, sigma_1 of the path, which need not be 1 and 0 for a user's path.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow, Pullback
from analysis.paths import AffinePath, Readout, expand
from toy_models.mixtures import quantile
from toy_models.mixtures.gaussian import LOG_2PI, GaussianMixture, MixtureFlow, check_weights


class ExactMap:
    """Mixin that derives ``exact_endpoint`` from ``exact_endpoint_vjp``."""

    def exact_endpoint(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return the endpoint Phi_{t,1}(x) (B, d) for x (B, d) and t of shape () or (B,)."""
        return self.exact_endpoint_vjp(x, t)[0]

    def exact_endpoint_vjp(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Pullback]:
        """Return Phi_{t,1}(x) (B, d) and the pullback v -> DPhi^T v; a subclass without it raises ``TypeError``."""
        raise TypeError(f"{type(self).__name__} must define exact_endpoint_vjp")


class GaussianFlow(ExactMap, MixtureFlow):
    """One Gaussian N(mean (d,), covariance (d, d)) along an affine path."""

    def __init__(self, mean: Tensor, covariance: Tensor, path: AffinePath) -> None:
        mean, covariance = checks.array(mean, "mean", 1), checks.array(covariance, "covariance", 2)
        super().__init__(GaussianMixture(torch.ones(1), mean[None], covariance[None]), path)

    def exact_endpoint_vjp(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Pullback]:
        """Return Phi_{t,1}(x) and its pullback; DPhi is symmetric."""
        x, t = self.checked(x, t)
        start, end = (
            self._marginal_variances(t)[..., 0, :],
            self._marginal_variances(torch.ones_like(t))[..., 0, :],
        )
        scale, basis = (end / start).sqrt(), self.mixture.eigenvectors[0]
        centre = [expand(self.path.alpha(s), x) * self.mixture.means[0] for s in (t, torch.ones_like(t))]

        def stretch(v: Tensor) -> Tensor:
            return (v @ basis * scale) @ basis.T

        return centre[1] + stretch(x - centre[0]), stretch


class ProductMixtureFlow(ExactMap, Flow):
    """A product of d one-dimensional mixtures, rotated: x = rotation @ z with independent z_i.

    Parameters
    ----------
    factors : d triples (weights (K_i,), means (K_i,), variances (K_i,)); the mixture has prod K_i modes
    rotation : (d, d), orthogonal
    path : the affine path

    Raises
    ------
    ValueError
        For a rotation that is not (d, d) and orthogonal, and factors whose arrays differ in length or whose variances
        are not positive.
    """

    dtype: torch.dtype

    def __init__(
        self,
        factors: Sequence[tuple[Tensor, Tensor, Tensor]],
        rotation: Tensor,
        path: AffinePath,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
    ) -> None:
        self.dtype, self.device = dtype, device
        triples: list[Any] = [
            checks.sequence(f"factors[{i}]", f) for i, f in enumerate(checks.sequence("factors", factors))
        ]
        if any(len(triple) != 3 for triple in triples):
            raise ValueError("factors must each be a triple: weights, means and variances")
        self.factors, self.path = triples, checks.path(path)
        self.rotation = checks.array(rotation, "rotation")
        d = len(triples)
        self.event_shape = (d,)
        if tuple(self.rotation.shape) != (d, d):
            raise ValueError(f"rotation must have shape {(d, d)}, got {tuple(self.rotation.shape)}")
        if not torch.allclose(self.rotation @ self.rotation.T, torch.eye(d).double(), rtol=0, atol=1e-10):
            raise ValueError("rotation must be orthogonal")
        width = max(len(torch.as_tensor(triple[0])) for triple in triples)
        padded = [self._padded(i, triple[0], triple[1], triple[2], width) for i, triple in enumerate(triples)]
        self._log_weights, self._means, self._variances = (
            torch.stack(p).to(device, dtype) for p in zip(*padded, strict=True)
        )
        self._given, self.rotation = self.rotation, self.rotation.to(device, dtype)

    @staticmethod
    def _padded(i: int, weights: Tensor, means: Tensor, variances: Tensor, width: int) -> list[Tensor]:
        """Return log-weights, means and variances of one axis, padded with components of weight zero.

        Returns
        -------
        list
            Three tensors (width,).

        Raises
        ------
        ValueError
            For arrays of different lengths, or variances that are not positive.
        """
        w = check_weights(weights, f"factors[{i}] weights").log()
        m, v = checks.array(means, f"factors[{i}] means"), checks.array(variances, f"factors[{i}] variances")
        if m.shape != w.shape or v.shape != w.shape or not bool((v > 0).all()):
            raise ValueError(f"factors[{i}] must be weights, means and positive variances of equal length")
        fills = zip((w, m, v), (-torch.inf, 0.0, 1.0), strict=True)
        return [torch.nn.functional.pad(p, (0, width - len(w)), value=fill) for p, fill in fills]

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow of the same distribution along another path."""
        return ProductMixtureFlow(self.factors, self._given, path, self.dtype, self.device)

    def to(self, dtype: torch.dtype, device: str) -> ProductMixtureFlow:
        """Return the flow in another dtype or on another device; its exact map needs float64 on the CPU."""
        return ProductMixtureFlow(self.factors, self._given, self.path, dtype, device)

    @functools.cached_property
    def mixture(self) -> GaussianMixture:
        """The same distribution as a mixture of prod K_i Gaussians, in float64."""
        if (self.dtype, self.device) != (torch.float64, "cpu"):
            return self.to(torch.float64, "cpu").mixture
        index = torch.cartesian_prod(*[torch.arange(len(torch.as_tensor(f[0]))) for f in self.factors])
        index = index.reshape(-1, len(self.factors)).T
        w, m, v = (torch.gather(p, 1, index).T for p in (self._log_weights, self._means, self._variances))
        covariances = (self.rotation * v[:, None, :]) @ self.rotation.T
        return GaussianMixture(w.sum(1).exp(), m @ self.rotation.T, (covariances + covariances.mT) / 2)

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout (..., d) at x (..., d) and t (...)."""
        return self._axes(x, t, readout)[0] @ self.rotation.T

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout (..., d) and its pullback; the Jacobian is diagonal in the rotated frame."""
        value, derivative = self._axes(x, t, readout)
        return value @ self.rotation.T, lambda v: (v @ self.rotation * derivative) @ self.rotation.T

    def divergence(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the trace (...) of the readout's Jacobian at x (..., d)."""
        return self._axes(x, t, readout)[1].sum(-1)

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x) (B,) in nats, at x (B, d)."""
        x, t = self.checked(x, t)
        return (torch.logsumexp(self._joint(x, t)[0], -1) - LOG_2PI / 2).sum(-1)

    def posterior_covariance(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return Var[X_1 | X_t = x] (B, d, d) at x (B, d)."""
        x, t = self.checked(x, t)
        log_joint, q, variance = self._joint(x, t)
        alpha, sigma = self._coefficient(self.path.alpha(t)), self._coefficient(self.path.sigma(t))
        r, e = log_joint.softmax(-1), self._means + alpha * self._variances * q
        spread = (e - (r * e).sum(-1, keepdim=True)).square()
        diagonal = (r * (sigma**2 * self._variances / variance + spread)).sum(-1)
        return (self.rotation * diagonal[:, None, :]) @ self.rotation.T

    def exact_endpoint_vjp(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Pullback]:
        """Compute Phi_{t,1}(x) and its pullback, by matching distribution functions axis by axis.

        Returns
        -------
        tuple
            The endpoint (B, d) and the pullback.

        Raises
        ------
        ValueError
            For a flow that is not in float64, and a state too far in a tail.
        """
        if self.dtype != torch.float64:
            raise ValueError(f"flow must be in float64 for its exact map, got {self.dtype}")
        x, t = (value.detach() for value in self.checked(x, t))
        start, end = (self._marginal(s, x.shape) for s in (t, torch.ones_like(t)))
        endpoint, log_derivative = quantile.match_mixtures((x @ self.rotation).numpy(), start, end)
        derivative = torch.from_numpy(log_derivative).exp()
        return (
            torch.from_numpy(endpoint) @ self.rotation.T,
            lambda v: (v @ self.rotation * derivative) @ self.rotation.T,
        )

    def _marginal(self, t: Tensor, shape: torch.Size) -> quantile.Mixture1D:
        alpha, sigma = self._coefficient(self.path.alpha(t)), self._coefficient(self.path.sigma(t))
        parts = (self._log_weights, alpha * self._means, (alpha**2 * self._variances + sigma**2).sqrt())
        return tuple(p.expand(*shape, -1).numpy() for p in parts)  # type: ignore[return-value]

    def _coefficient(self, value: Tensor) -> Tensor:
        return (value[..., None, None] if value.ndim else value).to(self._means)

    def _joint(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log(w N) without its constant, q = (z - alpha m)/variance, and the variance, each (..., d, K)."""
        alpha, sigma = self._coefficient(self.path.alpha(t)), self._coefficient(self.path.sigma(t))
        variance = alpha**2 * self._variances + sigma**2
        y = (x @ self.rotation)[..., None] - alpha * self._means
        q = y / variance
        return self._log_weights - (y * q + variance.log()) / 2, q, variance

    def _axes(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Tensor]:
        """Return the readout and its derivative along each axis of z, (..., d)."""
        log_joint, q, variance = self._joint(x, t)
        a, c, alpha = map(self._coefficient, (readout.target, readout.minus_score, self.path.alpha(t)))
        r, gain = log_joint.softmax(-1), a * alpha * self._variances + c
        v = a * self._means + gain * q
        value = (r * v).sum(-1, keepdim=True)
        return value[..., 0], (r * (gain / variance - (v - value) * q)).sum(-1)


class RadialMixtureFlow(ExactMap, MixtureFlow):
    """A zero-mean isotropic scale mixture sum_k w_k N(0, variances_k I) in ``dim`` dimensions: its flow is radial.

    Raises
    ------
    ValueError
        For variances that are not 1-D and positive, or weights that are not a distribution.
    """

    def __init__(self, weights: Tensor, variances: Tensor, dim: int, path: AffinePath) -> None:
        variances = checks.array(variances, "variances")
        if variances.ndim != 1 or not bool((variances > 0).all()):
            raise ValueError(f"variances must be 1-D and positive, got {variances.tolist()}")
        eye = torch.eye(checks.count("dim", dim), dtype=torch.float64)
        means = torch.zeros(len(variances), dim, dtype=torch.float64)
        super().__init__(GaussianMixture(weights, means, variances[:, None, None] * eye), path)

    def exact_endpoint_vjp(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Pullback]:
        """Return Phi_{t,1}(x) (B, d) and its pullback, by matching the distribution functions of the radius."""
        x, t = (value.detach() for value in self.checked(x, t))
        largest = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)  # else squares underflow
        size = torch.linalg.vector_norm(x / largest, dim=-1, keepdim=True)
        r, direction = largest * size, x / largest / size.clamp_min(1.0)
        start, end = (self._scales(s, len(x)) for s in (t, torch.ones_like(t)))
        # Below this radius the map is linear to round-off (it is odd in r), and the direction may be undefined.
        floor = 1e-9 * torch.from_numpy(start[1]).amin(-1, keepdim=True)
        safe = torch.maximum(r, floor)
        log_ratio, log_derivative = quantile.match_radii(safe.numpy()[:, 0], start, end, self.mixture.dim)
        ratio, derivative = (torch.from_numpy(p).exp()[:, None] for p in (log_ratio, log_derivative))
        return (
            ratio * x,
            lambda v: ratio * v + (derivative - ratio) * direction * (direction * v).sum(-1, keepdim=True),
        )

    def _scales(self, t: Tensor, batch: int) -> tuple[np.ndarray, np.ndarray]:
        scale = self._marginal_variances(t)[..., 0].sqrt().expand(batch, -1).numpy()
        return self.basis.log_weights.expand(batch, -1).numpy(), scale

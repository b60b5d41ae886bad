r"""Mixtures of low-rank-plus-diagonal Gaussians (factor analysers) and their flows, in closed form, for large d.

:math:`C_k = F_k F_k^T + \mathrm{diag}(D_k)`. In the notation of ``toy_models.mixtures.woodbury``, with
:math:`v_k = a\mu_k + B_k(x - \alpha\mu_k)`, :math:`q_k = S_k^{-1}(x - \alpha\mu_k)` and responsibilities r_k, the
readout :math:`a\,\hat x_1 - c\nabla\log p_t` is :math:`u = \sum_k r_k v_k` and its symmetric Jacobian
:math:`\sum_k r_k B_k - \sum_k r_k q_k (v_k - u)^T`, as in ``toy_models.mixtures.gaussian``. Source: Ghahramani &
Hinton, *The EM algorithm for mixtures of factor analyzers* (1996).
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow, Pullback
from analysis.paths import AffinePath, CondOT, Readout
from toy_models.mixtures.gaussian import LOG_2PI, GaussianMixture, check_weights, fold
from toy_models.mixtures.woodbury import Marginals


def _shaped(name: str, value: Tensor, shape: tuple[int | str, ...]) -> Tensor:
    """Check that a value is finite and of a shape, where a letter stands for any size of at least one.

    Returns
    -------
    Tensor
        The value in float64.

    Raises
    ------
    ValueError
        For another shape, or entries that are not finite.
    """
    value = checks.array(value, name)
    wanted = [n if isinstance(s, str) else s for n, s in zip(value.shape, shape, strict=False)]
    if value.ndim != len(shape) or list(value.shape) != wanted or 0 in value.shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"{name} must have shape ({expected}), got {tuple(value.shape)}")
    return value


class LowRankMixture:
    """A mixture of K Gaussians in d dimensions with covariances F_k F_k^T + diag(D_k), in float64.

    Parameters
    ----------
    weights : (K,), a distribution
    means : (K, d)
    factors : F (K, d, r)
    diagonals : D (K, d), positive

    Raises ``ValueError`` naming the argument for shapes that do not agree, NaN, weights that are no distribution, and
    diagonals that are not positive.

    Raises
    ------
    ValueError
        For shapes that do not agree, NaN, weights that are not a distribution, and diagonals that are not positive; the
        message names the argument.
    """

    def __init__(self, weights: Tensor, means: Tensor, factors: Tensor, diagonals: Tensor) -> None:
        self.weights = check_weights(weights)
        k = len(self.weights)
        self.means = _shaped("means", means, (k, "d"))
        self.factors = _shaped("factors", factors, (k, self.dim, "r"))
        self.diagonals = _shaped("diagonals", diagonals, (k, self.dim))
        if not bool((self.diagonals > 0).all()):
            raise ValueError(f"diagonals must be positive; the smallest is {float(self.diagonals.min()):.3g}")

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.means.shape[1]

    def dense(self) -> GaussianMixture:
        """Return the same mixture with full covariances (K, d, d)."""
        covariances = self.factors @ self.factors.mT + torch.diag_embed(self.diagonals)
        return GaussianMixture(self.weights, self.means, covariances)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n samples (n, d), drawn with an explicit CPU generator."""
        k = torch.multinomial(
            self.weights.cpu(), checks.count("n", n), replacement=True, generator=checks.generator(generator)
        )
        return self.sample_components(k, generator)

    def sample_components(self, k: Tensor, generator: torch.Generator) -> Tensor:
        """Return one sample (n, d) of each component in k (n,)."""
        sizes = self.factors.shape[2], self.dim
        z, e = (torch.randn(len(k), m, dtype=torch.float64, generator=generator).to(self.means.device) for m in sizes)
        k = k.to(self.means.device)
        return self.means[k] + apply_own(self.factors, k, z) + self.diagonals[k].sqrt() * e

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density (B,) at x (B, d), in nats."""
        return LowRankMixtureFlow(self, CondOT()).log_prob(x, 1.0)


def apply_own(matrices: Tensor, k: Tensor, z: Tensor) -> Tensor:
    """Return ``matrices[k] @ z`` (n, d) for matrices (K, d, r), k (n,) and z (n, r), copying no matrix per row."""
    placed = z.new_zeros(len(k), *matrices.shape[::2])
    placed[torch.arange(len(k), device=k.device), k] = z
    return placed.flatten(1) @ matrices.mT.flatten(0, 1)


class LowRankMixtureFlow(Flow):
    """The flow of a low-rank mixture along an affine path; states may carry leading axes, as for ``MixtureFlow``.

    Raises
    ------
    TypeError
        For a mixture or path of another kind.
    """

    dtype: torch.dtype

    def __init__(
        self, mixture: LowRankMixture, path: AffinePath, dtype: torch.dtype = torch.float64, device: str = "cpu"
    ) -> None:
        if not isinstance(mixture, LowRankMixture):
            raise TypeError(f"mixture must be a LowRankMixture, got {checks.kind(mixture)}")
        self.mixture, self.path, self.event_shape = mixture, checks.path(path), (mixture.dim,)
        self.dtype, self.device = dtype, device
        self._log_weights = mixture.weights.log().to(device, dtype)[:, None, None]
        parts = mixture.means[:, None, None], mixture.factors[:, None], mixture.diagonals[:, None, None]
        self._means, self._factors, self._diagonals = (part.to(device, dtype) for part in parts)

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow of the same mixture along another path."""
        return LowRankMixtureFlow(self.mixture, path, self.dtype, self.device)

    def to(self, dtype: torch.dtype, device: str) -> LowRankMixtureFlow:
        """Return the flow in another dtype or on another device."""
        return LowRankMixtureFlow(self.mixture, self.path, dtype, device)

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout (..., d) at x (..., d) and t (...)."""
        return self.predict_vjp(x, t, readout)[0]

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout (..., d) and its pullback, which stores (K, ..., d) intermediates."""
        shape = x.shape
        x, t, a, c = self._laid_out(x, t, readout)
        m, r, p, y = self._components(x, t)
        within = (a * m.alpha * m.diagonals + c) * m.root * y
        value = self._centre(a, r, p) + _mean(r, within)

        def pull(w: Tensor) -> Tensor:
            w = w.reshape(x.shape)
            along = torch.einsum("ktnd,tnd->ktn", within, w) + a[..., 0] * self._along_centre(w, p)
            spread = r * (along - torch.linalg.vecdot(w, value))
            scale, factors = m.gains(a, c)
            latent = r[..., None] * m.latent(torch.einsum("tnd,ktdr->ktnr", w, m.projection))
            direct = torch.einsum("ktn,ktd->tnd", r, scale[:, :, 0]) * w
            direct = direct + torch.einsum("ktnr,ktdr->tnd", latent, factors)
            return (direct - _mean(spread, m.root * y)).reshape(shape)

        return value.reshape(shape), pull

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x) (B,) in nats, at x (B, d)."""
        x, t = self.checked(x, t)
        shape = x.shape[:-1]
        x, t, *_ = self._laid_out(x, t, self.path.readout("target", t))
        joint = self._log_weights + self.marginals(t).components(x)[0]
        return joint.logsumexp(0).reshape(shape) - self.mixture.dim * LOG_2PI / 2

    def divergence(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the trace (...) of the readout's Jacobian at x (..., d)."""
        shape = x.shape[:-1]
        x, t, a, c = self._laid_out(x, t, readout)
        m, r, p, y = self._components(x, t)
        (scale, factors), inverse = m.gains(a, c), torch.cholesky_inverse(m.cholesky)
        trace = scale.sum(-1) + (inverse * (m.projection.mT @ factors)).sum((-1, -2))[..., None]
        v, q = m.posterior_means(a, c, p, y), m.root * y
        spread = torch.linalg.vecdot(v - _mean(r, v), q)
        return (r * (trace - spread)).sum(0).reshape(shape)

    def marginals(self, t: Tensor) -> Marginals:
        """Return the factored covariances at times t (T, 1, 1)."""
        alpha, sigma = (schedule(t).to(self._means) for schedule in (self.path.alpha, self.path.sigma))
        return Marginals(alpha, sigma, self._means, self._factors, self._diagonals)

    def _laid_out(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return states (T, n, d) and t, a, c (T, 1, 1), so that terms of time alone are computed once per time."""
        flat = x.reshape(-1, x.shape[-1])
        if t.ndim:
            t, *parts = (c.expand(x.shape[:-1]).reshape(-1) for c in (t, *readout))
            flat, t, a, c = fold(flat, t, Readout(*parts))
        else:
            a, c = readout.target, readout.minus_score
        times = t.numel()
        t, a, c = (part.reshape(-1, 1, 1) for part in (t, a, c))
        return flat.reshape(times, -1, x.shape[-1]), t, a.to(x), c.to(x)

    def _components(self, x: Tensor, t: Tensor) -> tuple[Marginals, Tensor, Tensor, Tensor]:
        """Return the marginals, r_k (K, T, n), p_k (K, T, n, r) and E_k^{1/2} q_k (K, T, n, d)."""
        m = self.marginals(t)
        log_joint, p, y = m.components(x)
        return m, (self._log_weights + log_joint).softmax(0), p, y

    def _centre(self, a: Tensor, r: Tensor, p: Tensor) -> Tensor:
        """Return sum_k r_k a (mu_k + F_k p_k), (T, n, d)."""
        factors = torch.einsum("ktnr,kdr->tnd", r[..., None] * p, self._factors[:, 0])
        return a * (torch.einsum("ktn,kd->tnd", r, self._means[:, 0, 0]) + factors)

    def _along_centre(self, w: Tensor, p: Tensor) -> Tensor:
        """Return w^T (mu_k + F_k p_k), (K, T, n)."""
        factors = torch.einsum("tnd,kdr->ktnr", w, self._factors[:, 0])
        return torch.einsum("tnd,kd->ktn", w, self._means[:, 0, 0]) + torch.linalg.vecdot(factors, p)


def _mean(r: Tensor, rows: Tensor) -> Tensor:
    """Return sum_k r_k rows_k, (T, n, d)."""
    return torch.einsum("ktn,ktnd->tnd", r, rows)

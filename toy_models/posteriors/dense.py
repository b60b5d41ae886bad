r"""The exact posterior of a Gaussian mixture under a linear-Gaussian measurement, and the exact likelihood score.

``toy_models.mixtures.conditioning`` has the posterior's formulas. The likelihood score (Doob's h) is the difference of
two mixtures' scores along the path,

.. math:: \nabla_x \log p(y | x_t) = \nabla_x \log p_t(x | y) - \nabla_x \log p_t(x),

finite at every t: at sigma = 0 it is :math:`A^T R^{-1}(y - A x/\alpha)/\alpha`, at alpha = 0 it is 0 to round-off.
Low-rank mixtures, for large d, are in ``posteriors.low_rank``; the two functions here take both kinds.
"""

from __future__ import annotations

from typing import overload

from torch import Tensor

from analysis import checks
from analysis.flow import Flow
from toy_models.mixtures.conditioning import Operator, measured, update
from toy_models.mixtures.exact import ProductMixtureFlow
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixture, LowRankMixtureFlow
from toy_models.posteriors.low_rank import LowRankLikelihood, LowRankPosterior


@overload
def condition(mixture: GaussianMixture, A: Operator, y: Tensor, noise_covariance: Tensor) -> GaussianMixture: ...
@overload
def condition(mixture: LowRankMixture, A: Operator, y: Tensor, noise_covariance: Tensor) -> LowRankPosterior: ...
def condition(
    mixture: GaussianMixture | LowRankMixture, A: Operator, y: Tensor, noise_covariance: Tensor
) -> GaussianMixture | LowRankPosterior:
    """Condition a mixture on y = A X_1 + noise, noise ~ N(0, noise_covariance).

    Shapes: A (m, d), or a ``LinearOperator``; y (m,), noise_covariance (m, m), symmetric positive definite.

    Returns
    -------
    GaussianMixture or LowRankPosterior
        The posterior of X_1, of the mixture's kind. Components of a ``GaussianMixture`` whose weight underflows float64
        are left out.

    Raises
    ------
    TypeError
        For a mixture of another kind, and arguments that hold no real numbers.
    ValueError
        For shapes that do not agree, NaN, and a covariance that is not symmetric positive definite; the message names
        the argument.
    """
    if not isinstance(mixture, GaussianMixture | LowRankMixture):
        raise TypeError(f"mixture must be a GaussianMixture or a LowRankMixture, got {checks.kind(mixture)}")
    if isinstance(mixture, LowRankMixture):
        return LowRankLikelihood(mixture, A, noise_covariance).posterior(y)
    return mixture.condition(A, y, noise_covariance)


def likelihood_score(
    flow: Flow, A: Operator, y: Tensor, noise_covariance: Tensor, x: Tensor, t: Tensor | float
) -> Tensor:
    """Compute grad_x log p(y | X_t = x) in float64, exactly for the flow of a mixture.

    Shapes: A (m, d), or a ``LinearOperator``; y (m,) or (B, m), noise_covariance (m, m), x (B, d), t a float or (B,) in
    [0, 1]. For a ``MixtureFlow`` the error is a few round-offs of the two scores whose difference it is, times the
    condition number of a component. For many calls with one A and R on a ``LowRankMixtureFlow``, one
    ``LowRankLikelihood`` is quicker.

    Returns
    -------
    Tensor
        (B, d).

    Raises
    ------
    ValueError
        As ``condition`` does, and for a flow that is not that of a mixture.
    """
    if not isinstance(flow, MixtureFlow | ProductMixtureFlow | LowRankMixtureFlow):
        raise ValueError(f"flow must be that of a Gaussian mixture, got {checks.kind(flow)}")
    x, t = flow.checked(x, t)
    y = checks.array(y, "y")
    if isinstance(flow, LowRankMixtureFlow):
        return LowRankLikelihood(flow.mixture, A, noise_covariance).score(flow.path, y, x, t)
    mixture = flow.mixture
    rows, values = measured(mixture.dim, A, y, noise_covariance)
    if values.ndim == 2 and len(values) != len(x):
        raise ValueError(f"y must have shape (m,) or (B, m) with B = {len(x)}, got {tuple(y.shape)}")
    prior = mixture.components()
    posterior = update(prior, rows, values.reshape(-1, len(rows)))
    place = x.double(), flow.path.alpha(t), flow.path.sigma(t)
    return posterior.score(*place) - prior.score(*place)

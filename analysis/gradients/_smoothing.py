r"""Monte-Carlo smoothing: the loss averaged over a Gaussian around the target prediction (loss-guided diffusion, LGD).

.. math:: g = -\nabla_x \log \frac1n \sum_{i=1}^n \exp\bigl(-L(\hat x_1(x, t) + r_t \epsilon_i)\bigr)
            = D\hat x_1^T \sum_i w_i \nabla L(\hat x_1 + r_t \epsilon_i), \quad w = \mathrm{softmax}(-L_i),
            \quad \epsilon_i \sim N(0, I).

It approximates :math:`-\nabla_x \log E[e^{-L(X_1)} | X_t = x]` with the posterior of X_1 replaced by
:math:`N(\hat x_1, r_t^2 I)` and r_t treated as constant. Source: LGD-MC (Song et al., *Loss-guided diffusion models for
plug-and-play controllable generation*, ICML 2023), with r_t = sigma/sqrt(1 + sigma^2) at alpha = 1, as in PiGDM; along
any affine path that is

.. math:: r_t = \sigma_t / \sqrt{\alpha_t^2 + \sigma_t^2},

the posterior's standard deviation for data of unit variance. ``scale`` multiplies it; scale 0 is greedy guidance. The
sum is a consistent, biased estimate of its own limit n -> infinity, which for :math:`L = |A x - y|^2_{R^{-1}}/2` is
``pigdm``; it needs exponentially more samples as r_t |grad L| grows.

The authors published no code. The definition was compared with the reimplementation in InverseBench
(github.com/devzhk/InverseBench), which has the same r_t, and differs in two points: it averages the gradients of the
squared residual with equal weights, :math:`D\hat x_1^T \frac1n \sum_i \nabla L_i`, where the logarithm of the mean
likelihood has softmax weights; and it divides them, as DPS does, by twice the root of the loss, which it sums over the
draws where they are evaluated together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow
from analysis.gradients._pigdm import isotropic_variance
from analysis.gradients.registry import register
from analysis.losses import Loss, value_and_gradient
from analysis.paths import expand

VARIANTS = [{"samples": samples} for samples in (1, 16)]


def smoothed_gradient(loss: Loss, centre: Tensor, radius: Tensor, samples: int, seed: int) -> Tensor:
    """Return the gradient of -log mean exp(-L) over ``samples`` draws of N(centre, radius^2), all (B, *event)."""
    generator = torch.Generator().manual_seed(seed)
    values, gradients = [], []
    for _ in range(samples):
        noise = torch.randn(centre.shape, dtype=torch.float64, generator=generator).to(centre)
        value, gradient = value_and_gradient(loss, centre + radius * noise)
        values.append(value)
        gradients.append(gradient)
    weights = torch.softmax(-torch.stack(values), 0).to(centre)  # a loss may compute in another dtype than x
    return torch.einsum("nb,nb...->b...", weights, torch.stack(gradients))


@register("lgd", VARIANTS)
def lgd(
    flow: Flow, loss: Loss, x: Tensor, t: Tensor, *, samples: int = 16, seed: int = 0, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Differentiate the smoothed loss: one evaluation, one VJP and ``samples`` loss gradients.

    The perturbations come from a separate generator seeded with ``seed``, so equal calls give equal bits. The endpoint
    is the unperturbed prediction.

    Returns
    -------
    tuple
        Gradient and endpoint (B, *event); a call returns an ``Estimate`` of them.

    Raises
    ------
    ValueError
        For ``samples`` below 1, a ``scale`` below 0, and a seed out of range.
    """
    samples, seed = checks.steps(samples, "samples"), checks.seed("seed", seed)
    scale = checks.at_least("scale", scale)
    endpoint, pull = flow.predict_vjp(x, t, flow.path.readout("target", t))
    radius = scale * expand(isotropic_variance(flow.path, t).sqrt(), x)
    return pull(smoothed_gradient(loss, endpoint, radius, samples, seed)), endpoint

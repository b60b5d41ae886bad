r"""Midpoint guidance (MGPS): at every step a Gaussian of a state nearer to the data is fitted to its posterior.

A step from t to s looks ahead to a midpoint :math:`\tau \in [s, 1)`. Let :math:`q_{s|t,u}` be the law of :math:`X_s`
given :math:`X_t` and a later :math:`X_u`, with u = "data" for :math:`X_1` without the path's last noise. A Gaussian
:math:`N(\mu, \mathrm{diag}\, e^{2\rho})` of :math:`x_\tau` is fitted by a few moves of an optimiser on

.. math:: \mathrm{KL}\bigl(N(\mu, e^{2\rho}) \,\|\, q_{\tau|t,\mathrm{data}}(\cdot \,|\, x_t, \hat x_1(x_t, t))\bigr)
          + E\, L\bigl(\hat x_1(\mu + e^\rho z, \tau)\bigr), \qquad z \sim N(0, I),

the expectation by one draw of z for each move. Then :math:`x_\tau` is drawn from the Gaussian, and :math:`x_s` from
:math:`q_{s|t,\tau}(\cdot \,|\, x_t, x_\tau)`. Where L = :math:`-\log p(y | x_1)` this bounds the posterior's evidence.
With :math:`\rho_{ts} = \alpha_t/\alpha_s` and :math:`v_{ts} = \sigma_t^2 - \rho_{ts}^2 \sigma_s^2`, Bayes' rule gives

.. math:: q_{s|t,u} = N\Bigl(\frac{\rho_{ts} v_{su}}{v_{tu}} x_t + \frac{v_{ts}\rho_{su}}{v_{tu}} x_u,\;
          \frac{v_{ts} v_{su}}{v_{tu}} I\Bigr).

A step to time 1 without noise is the prediction :math:`\hat x_1`. With L = 0 and ``start="transition"`` the steps are
those of the reverse-time SDE, ``oracle_sde`` with a score of 0, whatever :math:`\tau` is. Where alpha = 0 at time 0,
the first step forgets x0.

Source: Moufad et al., *Variational diffusion posterior sampling with midpoint guidance*, arXiv 2410.09945. The authors'
code (github.com/YazidJanati/mgps, commit 7839182) has the same objective, transition, bridge and last step. There
:math:`\tau` is a share of the remaining discrete timesteps (one half by default), here of the remaining time; their
number of moves follows a schedule (2, but 10 to 20 at the first steps and at every tenth), here it is constant; on
images the first three tenths of their solve are warmed up by a second fit, of :math:`x_1`, which is left out here, as
in their configuration for mixtures. Their fit starts from the previous step's prediction (``start="carried"``), so that
what few moves leave undone is done over the steps; ``start="transition"`` is not in their code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow
from analysis.gradients._greedy import greedy
from analysis.guidance.optimisers import Step
from analysis.guidance.optimisers import optimiser as make
from analysis.guidance.oracle import whole_grid
from analysis.guidance.registry import DivergenceMonitor, register
from analysis.losses import Loss
from analysis.norms import widened
from analysis.paths import AffinePath

STARTS = ("transition", "carried")


class Bridge(NamedTuple):
    """The law N(near x_t + far x_u, variance) of x_s between x_t and x_u; each ()."""

    near: Tensor
    far: Tensor
    variance: Tensor

    def mean(self, x: Tensor, end: Tensor) -> Tensor:
        """Return the mean (B, *event) between two states (B, *event), in the wider of float32 and their dtype."""
        return self.near * widened(x) + self.far * widened(end)


def bridge(path: AffinePath, t: Tensor, s: Tensor, u: Tensor | None = None) -> Bridge:
    """Return the law of x_s given x_t and x_u, for times t < s <= u; ``None`` is the data, without noise."""
    alpha, sigma = (1.0, 0.0) if u is None else (path.alpha(u), path.sigma(u))
    before, after = path.alpha(t) / path.alpha(s), path.alpha(s) / alpha
    from_t = path.sigma(t) ** 2 - (before * path.sigma(s)) ** 2
    to_u = (path.sigma(s) ** 2 - (after * sigma) ** 2).clamp_min(0)
    whole = from_t + before**2 * to_u
    return Bridge(before * to_u / whole, from_t * after / whole, from_t * to_u / whole)


def fit(
    gradient: Callable[[Tensor], Tensor],
    start: Tensor,
    transition: tuple[Tensor, Tensor],
    moves: tuple[Step, Step],
    noise: Callable[[], Tensor],
    inner: int,
) -> tuple[Tensor, Tensor]:
    """Fit a Gaussian to a Gaussian prior and a loss, by ``inner`` moves of an optimiser.

    Parameters
    ----------
    gradient : of the loss at states (B, *event)
    start : (B, *event), the mean to begin with; the standard deviation to begin with is the prior's
    transition : the prior's mean (B, *event) and variance ()
    moves : the optimisers of the mean and of the logarithm of the standard deviation
    noise : draws z (B, *event)

    Returns
    -------
    tuple
        Mean and standard deviation, both (B, *event).
    """
    mean, (prior, variance) = start, transition
    log_std = torch.full_like(mean, 0.5 * math.log(float(variance)))
    for _ in range(inner):
        spread = log_std.exp() * noise()
        g = gradient(mean + spread)
        mean, log_std = (
            moves[0](mean, (mean - prior) / variance + g),
            moves[1](log_std, (2 * log_std).exp() / variance - 1 + g * spread),
        )
    return mean, log_std.exp()


@register("midpoint_guidance")
def midpoint_guidance(
    flow: Flow,
    loss: Loss,
    x0: Tensor,
    monitor: DivergenceMonitor,
    *,
    steps: int,
    generator: torch.Generator,
    learning_rate: float = 0.03,
    inner: int = 2,
    midpoint: float = 0.5,
    start: str = "carried",
    optimiser: str = "adam",
    grid: str | Tensor = "t",
) -> Tensor:
    """Sample from x0 (B, *event) at time 0 to time 1 by MGPS.

    A step costs ``inner`` + 1 evaluations and ``inner`` products; one evaluation more where predictions are carried.
    The share ``midpoint`` matters most: samples are broader than the posterior where it is too large, and narrower
    where it is too small.

    Parameters
    ----------
    steps, grid : times as in ``solvers.grids.time_grid``
    generator : draws the noise
    learning_rate, optimiser : of the fit, as in ``optimise_source``; Adam in the authors' code, which also has
        normalised steps
    inner : moves per step
    midpoint : tau as a share of the way from a step's end, 0, to time 1; below 1, as nothing is left to fit there
    start : where the mean begins: "transition", at the mean of the law that the loss is added to; or "carried", with
        the prediction at the last step's midpoint in place of that at x_t

    Returns
    -------
    Tensor
        Samples (B, *event); a call returns a ``Sample``.

    Raises
    ------
    TypeError
        For a generator that is not one of the CPU.
    ValueError
        For an option with a value that is not allowed; the message names it and lists what is.
    """
    generator, inner = checks.generator(generator), checks.steps(inner, "inner")
    midpoint, start = checks.share("midpoint", midpoint), checks.known("start", start, STARTS)
    if midpoint == 1:
        raise ValueError("midpoint must be below 1, where the prediction is the state and nothing is left to fit")
    make(optimiser, x0, learning_rate)  # so that a wrong one is refused before any work
    times, path, wide = whole_grid(flow, steps, grid), flow.path, widened(x0)
    x, carried = x0, None

    def noise() -> Tensor:
        return torch.randn(x0.shape, dtype=torch.float64, generator=generator).to(wide)

    def target(x: Tensor, t: Tensor) -> Tensor:
        return flow.predict(x, t, path.readout("target", t))

    for i, (t, s) in enumerate(itertools.pairwise(times)):
        tau = s + midpoint * (1 - s)
        ahead, law = target(x, t), bridge(path, t, tau)
        prior, begin = (law.mean(x, end) for end in (ahead, ahead if carried is None else carried))
        if not law.variance > 0:
            x = monitor.accept(prior.to(x), x, i)
            continue
        moves = make(optimiser, wide, learning_rate), make(optimiser, wide, learning_rate)

        def gradient(state: Tensor, tau: Tensor = tau) -> Tensor:
            return widened(greedy.rule(flow, loss, state.to(x0), tau)[0])

        mean, std = fit(gradient, begin, (prior, law.variance), moves, noise, inner)
        middle = mean + std * noise()
        between = bridge(path, t, s, tau)
        x = monitor.accept((between.mean(x, middle) + between.variance.sqrt() * noise()).to(x), x, i)
        if start == "carried" and i + 1 < len(times) - 1:
            carried = target(middle.to(x), tau)
    return x

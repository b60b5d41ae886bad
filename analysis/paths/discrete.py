r"""Paths of diffusion models that were trained at discrete timesteps: through their :math:`\bar\alpha_n` or betas.

At timestep n = 0, ..., N - 1 such a model has :math:`\alpha = \sqrt{\bar\alpha_n}`, :math:`\sigma =
\sqrt{1 - \bar\alpha_n}` (DDPM, arXiv 2006.11239). The path runs through these points at t = 1 - n/(N - 1): the angle
:math:`\arctan(\alpha/\sigma)`, a function of the log-SNR that is finite even where the last :math:`\bar\alpha` is zero,
is interpolated by a cubic spline in n. It is exact at the timesteps. The path ends at timestep 0, with the noise
:math:`\sqrt{1 - \bar\alpha_0}` left (0.01, mostly).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from analysis import checks
from analysis.paths.user_path import UserPath

STANDS_FOR_ZERO = 2.0**-24


def from_betas(betas: Any) -> UserPath:
    """Return the path of a model trained with noise rates beta_n (N,), each in (0, 1]: abar_n is prod (1 - beta).

    Parameters
    ----------
    betas : N >= 4 numbers, a tensor, array or list; the first is that of the least noise

    Returns
    -------
    UserPath
        With t = 1 - n/(N - 1) at timestep n.

    Raises
    ------
    ValueError
        Unless there are at least four numbers in (0, 1], of which the last alone may be 1.
    """
    rates = checks.array(betas, "betas")
    if rates.ndim != 1 or len(rates) < 4 or not bool(((rates > 0) & (rates <= 1)).all()):
        raise ValueError("betas must be at least four numbers in (0, 1]")
    return from_alphas_cumprod((1 - rates).cumprod(0))


def from_alphas_cumprod(alphas_cumprod: Any) -> UserPath:
    """Return the variance-preserving path through (sqrt(a_n), sqrt(1 - a_n)) at t = 1 - n/(N - 1), n = 0, ..., N - 1.

    With ``rescale_betas_zero_snr`` the last a_n is zero, but some schedulers put 2^-24 in its place, for their own
    divisions, which may be more than the number before it: that is read as the zero that it stands for.

    Parameters
    ----------
    alphas_cumprod : the N >= 4 numbers a_n, a tensor, array or list; the first is that of the least noise

    Returns
    -------
    UserPath
        With t = 1 - n/(N - 1) at timestep n.

    Raises
    ------
    ValueError
        Unless the a_n lie in [0, 1) and decrease strictly.
    """
    a = checks.array(alphas_cumprod, "alphas_cumprod").cpu().numpy().copy()
    if a.ndim == 1 and len(a) and a[-1] == STANDS_FOR_ZERO:
        a[-1] = 0.0
    if a.ndim != 1 or len(a) < 4 or not (np.all((a >= 0) & (a < 1)) and np.all(np.diff(a) < 0)):
        raise ValueError("alphas_cumprod must be at least four numbers in [0, 1) that decrease strictly")
    angle = _spline(np.arctan2(np.sqrt(a), np.sqrt(1 - a))[::-1])

    return UserPath(
        lambda t: torch.sin(angle(t, 0)),
        lambda t: torch.cos(angle(t, 0)),
        lambda t: torch.cos(angle(t, 0)) * angle(t, 1),
        lambda t: -torch.sin(angle(t, 0)) * angle(t, 1),
    )


def _spline(values: np.ndarray) -> Callable[[Tensor, int], Tensor]:
    """Return the cubic spline through values at equal distances over [0, 1], and its derivative (order 1)."""
    pieces = len(values) - 1
    made = CubicSpline(np.linspace(0, 1, len(values)), values)
    coefficients = [torch.as_tensor(c) for c in (made.c, made.derivative().c)]

    def evaluate(t: Tensor, order: int) -> Tensor:
        # In torch and not in numpy, which cannot see inside a forward-mode derivative.
        piece = (t * pieces).long().clamp(0, pieces - 1)
        rest, value = t - piece.to(t) / pieces, torch.zeros_like(t)
        for c in coefficients[order].to(t)[:, piece]:
            value = value * rest + c
        return value

    return evaluate

"""Flows made from any differentiable function: a velocity, a denoiser, a noise predictor or a score."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from analysis import checks
from analysis.flow.interface import Flow, Pullback
from analysis.flow.plain_words import PlainProbe
from analysis.paths import AffinePath, Readout, at_equal_zeta, expand
from analysis.probe import Probe, select_rows, unrelated

Prediction = Callable[[Tensor, Tensor], Tensor]
END = 1e-3  # how far from an end of time where its velocity is 0/0 a function is asked, where nothing else is said


class PredictionFlow(Flow):
    """A flow from any differentiable callable ``function(x, t) -> (B, *event)`` with t of shape (B,).

    Along another path than its own (``with_path``), the function is called at the time of equal zeta, with the state
    scaled as ``at_equal_zeta`` computes.

    Parameters
    ----------
    function : an ``nn.Module`` or function
    path : the path it was trained on, afterwards in ``own``
    prediction : the quantity that it predicts: "velocity", "target" (a denoiser), "source" (a noise predictor) or
        "score"
    t_min, t_max : the range of own times at which it is called; times outside are moved to its ends. The velocity of a
        denoiser at t = 1 is 0/0, so a solver in t needs ``t_max < 1`` there (see ``usable_times``); the default changes
        no time.
    event_shape : that of one sample, or ``None`` where any is accepted
    time_dtype : the dtype of the times passed to the function; ``None`` for that of x

    Raises
    ------
    TypeError
        For a function or path of another kind.
    ValueError
        For an unknown prediction, and unless 0 <= t_min < t_max <= 1.
    """

    def __init__(
        self,
        function: Prediction,
        path: AffinePath,
        prediction: str = "velocity",
        t_min: float = 0.0,
        t_max: float = 1.0,
        *,
        event_shape: tuple[int, ...] | None = None,
        time_dtype: torch.dtype | None = None,
    ) -> None:
        checks.path(path)
        t_min, t_max = checks.number("t_min", t_min), checks.number("t_max", t_max)
        if not 0 <= t_min < t_max <= 1:
            raise ValueError(f"t_min, t_max must satisfy 0 <= t_min < t_max <= 1, got {t_min}, {t_max}")
        path.readout(prediction, 0.5)
        self.function, self.path, self.own = checks.function(function, "function"), path, path
        self.prediction = prediction
        self.t_min, self.t_max = t_min, t_max
        self.event_shape, self.time_dtype = event_shape, time_dtype
        self.probe = Probe()

    def with_path(self, path: AffinePath) -> PredictionFlow:
        """Return the flow of the same function along another path; raises as the constructor for one that is none."""
        checks.path(path)
        moved = copy.copy(self)
        moved.path = path
        return moved

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the flow of the samples with indices ``rows`` (C,).

        The function may have a method ``select_rows(rows)``, which returns the function for these samples.

        Returns
        -------
        Flow
            Of C samples.
        """
        function = select_rows(self.function, rows)
        if function is self.function:
            return self
        selected = copy.copy(self)
        selected.function = function
        return selected

    def _readout(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        if self.path != self.own:
            scale, t, readout = at_equal_zeta(self.own, self.path, x, t, readout)
            x = scale * x
        return self._own_readout(x, t, readout)

    def ask(self, x: Tensor, t: Tensor) -> None:
        """Look at what the function does at x (B, *event) and t, the first time that any copy of this flow is asked."""
        if self.path != self.own:
            scale, t, _ = at_equal_zeta(self.own, self.path, x, t, self.path.readout("target", t))
            x = scale * x
        self.probe.look(self.function, x, self._times(x, t))

    def _times(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the own times (B,) that the function sees."""
        return t.clamp(self.t_min, self.t_max).expand(x.shape[0]).to(x.device, self.time_dtype or x.dtype)

    def _own_readout(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout (B, *event) on the path that the function was trained on."""
        value = self.probe.call(self.function, x, self._times(x, t))
        t = t.clamp(self.t_min, self.t_max)
        if value.shape != x.shape or value.dtype != x.dtype or value.device != x.device:
            raise ValueError(
                f"function must return a tensor like x, {tuple(x.shape)} {x.dtype} on {x.device}; "
                f"got {tuple(value.shape)} {value.dtype} on {value.device}"
            )
        if x.requires_grad and not value.requires_grad:
            raise ValueError(unrelated(self.function))
        if self.prediction == "score":
            value = -expand(self.own.sigma(t), x) * value
        have = self.own.readout("source" if self.prediction == "score" else self.prediction, t)
        if self.t_max < 1:  # the weight of the noise may be infinite at t = 1, that of the score is not
            finite = torch.isfinite(readout.source)
            readout = readout._replace(
                source=torch.where(finite, readout.source, readout.minus_score / self.own.sigma(t))
            )
        on_value, on_x = self.own.change_readout(t, have, readout)
        return expand(on_value, x) * value + expand(on_x, x) * x

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout (B, *event); a graph is recorded only where x requires a gradient."""
        # A dual number hides whether the tensor inside it asks for a graph.
        asked = x.requires_grad or unpack_dual(x).tangent is not None
        with torch.set_grad_enabled(asked and torch.is_grad_enabled()):
            return self._readout(x, t, readout)

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout (B, *event) and its pullback, which holds the autograd graph of one evaluation."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = self._readout(x, t, readout)
        return value.detach(), lambda v: torch.autograd.grad(value, x, v, retain_graph=True)[0]


def from_velocity(function: Prediction, path: AffinePath) -> PredictionFlow:
    """Make a flow from a velocity network u(x, t) -> (B, *event); raises as ``PredictionFlow`` does.

    It is called up to t = 1, or up to 0.999 where sigma' is infinite at t = 1, as on the path of the VP-SDE.

    Returns
    -------
    PredictionFlow
        The flow of the function.
    """
    return _asked(PredictionFlow(function, path, "velocity", t_max=usable_times(path, "velocity")[1]))


def from_denoiser(function: Prediction, path: AffinePath, t_max: float | None = None) -> PredictionFlow:
    """Make a flow from a target prediction (denoiser) x1hat(x, t) -> (B, *event), as ``PredictionFlow`` does.

    It is called up to ``t_max``, by default up to 0.999 where sigma = 0 at t = 1: its velocity is 0/0 there.

    Returns
    -------
    PredictionFlow
        The flow of the function.
    """
    last = usable_times(path, "target")[1] if t_max is None else t_max
    return _asked(PredictionFlow(function, path, "target", t_max=last))


def from_noise_predictor(
    function: Prediction, path: AffinePath, t_min: float | None = None, t_max: float | None = None
) -> PredictionFlow:
    """Make a flow from a source (noise) prediction x0hat(x, t) -> (B, *event), as ``PredictionFlow`` does.

    It is called from ``t_min`` to ``t_max``, by default from 0.001 on where alpha = 0 at t = 0, as its velocity is 0/0
    there, and up to 0.999 where sigma' is infinite at t = 1, as on the path of the VP-SDE.

    Returns
    -------
    PredictionFlow
        The flow of the function.
    """
    first, last = usable_times(path, "source")
    first, last = first if t_min is None else t_min, last if t_max is None else t_max
    return _asked(PredictionFlow(function, path, "source", first, last))


def _asked(flow: PredictionFlow) -> PredictionFlow:
    """Return the flow of a user's function, whose faults are said in plain words."""
    flow.probe = PlainProbe()
    return flow


def usable_times(path: AffinePath, prediction: str) -> tuple[float, float]:
    """Return the least and the greatest time at which a prediction determines the velocity, to ``END``.

    A target prediction does not where sigma = 0, a source prediction and a score do not where alpha = 0, and none does
    at t = 1 where sigma' is infinite, as that of the VP-SDE.

    Returns
    -------
    tuple[float, float]
        Times in [0, 1], the default range of a function's own times.
    """
    checks.path(path)
    of_noise = prediction in ("source", "score")
    low = END if of_noise and path.alpha(0.0) == 0 else 0.0
    singular = path.sigma(1.0) == 0 if prediction == "target" else torch.isinf(path.d_sigma(1.0))
    return low, 1 - END if singular else 1.0

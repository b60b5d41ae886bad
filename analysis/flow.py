r"""The interface of a flow, and wrappers that make one from a velocity, a denoiser or a noise predictor.

A flow returns the readout :math:`a\,\hat x_1(x,t) + b\,\hat x_0(x,t)` for given coefficients (a, b): its value, and its
Jacobian's products with vectors (``analysis.paths`` lists the readout of each prediction). Estimators and solvers use
nothing else, so an analytic flow with closed-form products and a network differentiated by autograd run through the
same code.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from analysis import checks
from analysis.paths import AffinePath, Readout, at_equal_zeta, expand
from analysis.plan import StepPlan
from analysis.probe import Probe, select_rows, unrelated

Pullback = Callable[[Tensor], Tensor]
Prediction = Callable[[Tensor, Tensor], Tensor]
END = 1e-3  # how far from an end of time where its velocity is 0/0 a function is asked, where nothing else is said


class Flow(ABC):
    """A probability-flow model of X_1 along an affine path.

    Subclasses implement ``predict`` and, if they are to be differentiated, ``predict_vjp``. The arguments of these two
    are trusted: x (B, *event) finite, t () or (B,) in [0, 1], readout coefficients of the shape of t. The named
    predictions below check theirs.

    Attributes
    ----------
    path : the affine path
    event_shape, dtype : those of one sample, or ``None`` where any is accepted
    """

    path: AffinePath
    event_shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None

    @abstractmethod
    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return a x1hat + b x0hat (B, *event) at x (B, *event) and t, () or (B,)."""

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout (B, *event) and its pullback, as ``torch.func.vjp`` does; ``TypeError`` without one."""
        raise TypeError(f"{type(self).__name__} can be solved but not differentiated: it defines no predict_vjp")

    def solve_vjp(self, x: Tensor, plans: Sequence[StepPlan]) -> tuple[Tensor, Pullback] | None:
        """Solve all plans of one method from x (plans, B, *event) at once: an optional fast path.

        Callers use ``analysis.solvers.checkpointing.solve_all_vjp``, which falls back on one evaluation after another.

        Returns
        -------
        tuple or None
            The ends (plans, B, *event) and the pullback of this discrete map; ``None`` where the flow has no fused
            solve for these plans.
        """
        return None

    def named(self, prediction: str, x: Tensor, t: Tensor | float) -> Tensor:
        """Compute one of ``analysis.paths.PREDICTIONS`` at states x (B, *event) and times t (float or (B,)).

        Returns
        -------
        Tensor
            (B, *event).

        Raises
        ------
        TypeError
            For x or t of another kind.
        ValueError
            For an unknown prediction, x of the wrong shape or not finite, and t outside [0, 1] or of another shape.
        """
        x, t = self.checked(x, t)
        with checks.passed_door():
            return self.predict(x, t, self.path.readout(prediction, t))

    def velocity(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return u(x, t) (B, *event), the right-hand side of the flow's ODE; raises as ``named`` does."""
        return self.named("velocity", x, t)

    def target(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return the target prediction E[X_1 | X_t = x] (B, *event); raises as ``named`` does."""
        return self.named("target", x, t)

    def source(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return the source (noise) prediction E[X_0 | X_t = x] (B, *event); raises as ``named`` does."""
        return self.named("source", x, t)

    def score(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return grad log p_t(x) = -x0hat / sigma (B, *event); raises as ``named`` does."""
        return self.named("score", x, t)

    def with_path(self, path: AffinePath) -> Flow:
        """Return the flow of the same X_1 along another path."""
        return Reparametrized(self, path)

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the flow of the samples with indices ``rows`` (C,) of a batch; an index may occur several times.

        A flow may hold data for each sample of a batch, such as class labels. Code that cuts, reorders or repeats a
        batch asks the flow for these rows. A flow without such data is the same for all samples.

        Returns
        -------
        Flow
            Of C samples.
        """
        return self

    def ask(self, x: Tensor, t: Tensor) -> None:  # noqa: B027
        """Look at what a user's function does, as ``analysis.probe`` says; a closed form needs no looking at."""

    def checked(self, x: Tensor, t: Tensor | float, name: str = "x") -> tuple[Tensor, Tensor]:
        """Return x (B, *event) and t, () or (B,), checked for this flow; raises ``TypeError`` or ``ValueError``."""
        x = checks.state(x, self.event_shape, name)
        if self.dtype not in (None, x.dtype):
            raise ValueError(f"{name} must have the flow's dtype, {self.dtype}, got {x.dtype}")
        return x, checks.time(t, (x.shape[0],), x.device)


@runtime_checkable
class HasExactMap(Protocol):
    """A flow whose map from t to 1 has a closed form."""

    def exact_endpoint_vjp(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Pullback]:
        """Return Phi_{t,1}(x) (B, *event), and the pullback v -> DPhi^T v."""
        ...


@runtime_checkable
class HasDensity(Protocol):
    """A flow with a known density and a known trace of its readouts' Jacobians."""

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return log p_t(x) (B,) in nats."""
        ...

    def divergence(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the trace (B,) of a readout's Jacobian."""
        ...


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
    """Make a flow from a velocity network u(x, t) -> (B, *event); raises as ``PredictionFlow`` does."""
    return PredictionFlow(function, path, "velocity")


def from_denoiser(function: Prediction, path: AffinePath, t_max: float | None = None) -> PredictionFlow:
    """Make a flow from a target prediction (denoiser) x1hat(x, t) -> (B, *event), as ``PredictionFlow`` does.

    It is called up to ``t_max``, by default up to 0.999 where sigma = 0 at t = 1: its velocity is 0/0 there.

    Returns
    -------
    PredictionFlow
        The flow of the function.
    """
    return PredictionFlow(function, path, "target", t_max=usable_times(path, "target")[1] if t_max is None else t_max)


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
    return PredictionFlow(function, path, "source", first if t_min is None else t_min, last if t_max is None else t_max)


def usable_times(path: AffinePath, prediction: str) -> tuple[float, float]:
    """Return the least and the greatest time at which a prediction determines the velocity, to ``END``.

    A target prediction does not where sigma = 0; a source prediction and a score do not where alpha = 0, nor at t = 1
    where sigma' is infinite, as that of the VP-SDE.

    Returns
    -------
    tuple[float, float]
        Times in [0, 1], the default range of a function's own times.
    """
    checks.path(path)
    of_noise = prediction in ("source", "score")
    low = END if of_noise and path.alpha(0.0) == 0 else 0.0
    singular = path.sigma(1.0) == 0 if prediction == "target" else of_noise and torch.isinf(path.d_sigma(1.0))
    return low, 1 - END if singular else 1.0


class Reparametrized(Flow):
    """Any flow along another path: a change of time (equal zeta) and of scale.

    The state on the new path is ``alpha_new / alpha_old`` times the state on the old one at the time of equal zeta;
    predictions of X_1 and X_0 are the same there.
    """

    def __init__(self, flow: Flow, path: AffinePath) -> None:
        self.flow, self.path, self.event_shape = flow, path, flow.event_shape

    def with_path(self, path: AffinePath) -> Flow:
        """Return the wrapped flow along another path."""
        return self.flow.with_path(path)

    def select_rows(self, rows: Tensor) -> Flow:
        """Return the wrapped flow of the samples with indices ``rows`` (C,), along the same path."""
        return Reparametrized(self.flow.select_rows(rows), self.path)

    def ask(self, x: Tensor, t: Tensor) -> None:
        """Look at what the wrapped flow's function does."""
        scale, t, _ = self._old(x, t, self.path.readout("target", t))
        self.flow.ask(scale * x, t)

    def _old(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Tensor, Readout]:
        return at_equal_zeta(self.flow.path, self.path, x, t, readout)

    def predict(self, x: Tensor, t: Tensor, readout: Readout) -> Tensor:
        """Return the readout (B, *event), from the wrapped flow at its own time and scale."""
        scale, old, readout = self._old(x, t, readout)
        return self.flow.predict(scale * x, old, readout)

    def predict_vjp(self, x: Tensor, t: Tensor, readout: Readout) -> tuple[Tensor, Pullback]:
        """Return the readout (B, *event) and its pullback, by the chain rule."""
        scale, old, readout = self._old(x, t, readout)
        value, pull = self.flow.predict_vjp(scale * x, old, readout)
        return value, lambda v: scale * pull(v)

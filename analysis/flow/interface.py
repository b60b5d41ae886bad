"""The interface of a flow, what some flows know besides, and any flow along another path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from analysis import checks
from analysis.paths import AffinePath, Readout, at_equal_zeta
from analysis.plan import StepPlan

Pullback = Callable[[Tensor], Tensor]


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

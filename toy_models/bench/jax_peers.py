"""The diffrax contenders of the bench: the mixture in jax.numpy, solved and differentiated by diffrax.

The formulas are those of ``toy_models.mixtures.gaussian`` along CondOT, whitened, with the diagonal factors folded into
the bases; jax differentiates them. One jitted function serves all cells of a step count, its horizon a traced argument.
Importing this module switches jax to 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from torch import Tensor

from toy_models.mixtures.gaussian import MixtureFlow

jax.config.update("jax_enable_x64", True)
Readout = Callable[[Any, Any, Any], Any]
ADJOINTS: dict[str, Callable[[int], Any]] = {
    "recursive": lambda steps: diffrax.RecursiveCheckpointAdjoint(),
    "stored": lambda steps: diffrax.RecursiveCheckpointAdjoint(checkpoints=steps),
    "backsolve": lambda steps: diffrax.BacksolveAdjoint(),
}


class RK4(diffrax.AbstractERK):
    """The classic Runge-Kutta method, which diffrax does not ship; its error estimate is not used."""

    tableau: ClassVar[diffrax.ButcherTableau] = diffrax.ButcherTableau(
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
        b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        b_error=np.zeros(4),
        c=np.array([0.5, 0.5, 1.0]),
    )
    interpolation_cls: ClassVar[Any] = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms: Any) -> int:
        """Return 4."""
        return 4


SOLVERS = {"euler": diffrax.Euler, "rk4": RK4}


def _array(tensor: Tensor) -> Any:
    return jnp.asarray(tensor.detach().cpu().numpy())


def readout(flow: MixtureFlow) -> Readout:
    """Return f(x, t, c): the target prediction for c = 0 and the velocity for c = t - 1, along CondOT."""
    into, means, variances = _array(flow.basis.into), _array(flow.basis.means), _array(flow.basis.variances)
    centres, log_weights = _array(flow.basis.centres), _array(flow.basis.log_weights)

    def function(x: Any, t: Any, c: Any) -> Any:
        t, c = jnp.asarray(t, x.dtype), jnp.asarray(c, x.dtype)
        marginal = t**2 * variances + (1 - t) ** 2
        root = jax.lax.rsqrt(marginal)
        gain = (t * variances + c) * root
        y = (x @ (into * root.ravel())).reshape(-1, *means.shape) - t * root * means
        r = jax.nn.softmax(log_weights - ((y**2).sum(-1) + jnp.log(marginal).sum(-1)) / 2)
        return r @ centres + (r[..., None] * y).reshape(len(x), -1) @ (into * gain.ravel()).T

    return function


def contender(
    flow: MixtureFlow,
    target: Tensor,
    x: Tensor,
    t: float,
    steps: Sequence[int],
    horizons: Sequence[float],
    solver: str,
    adjoint: str,
) -> Callable[[], list[Any]]:
    """Return the run that computes every cell's gradient, by step count, and waits for the last."""
    function, aim, start = readout(flow), _array(target), _array(x)
    term = diffrax.ODETerm(lambda time, state, args: function(state, time, time - 1))

    def solve(state: Any, horizon: Any, n: int) -> Any:
        ahead = diffrax.diffeqsolve(
            term, SOLVERS[solver](), t, horizon, (horizon - t) / n, state, saveat=diffrax.SaveAt(t1=True),
            adjoint=ADJOINTS[adjoint](n), max_steps=n, throw=False,
        )  # fmt: skip
        assert ahead.ys is not None
        return ahead.ys[0]

    def loss(endpoint: Any) -> Any:
        return ((endpoint - aim) ** 2).sum() / 2

    def jitted(n: int) -> Any:
        def value(state: Any, horizon: Any) -> Any:
            ahead = solve(state, horizon, n) if n else state
            return loss(jax.lax.cond(horizon < 1, lambda x: function(x, horizon, 0.0), lambda x: x, ahead))

        return jax.jit(jax.grad(value))

    greedy, calls = jitted(0), []
    for n in steps:
        moving = jitted(n)
        calls += [(moving if s > t else greedy, jnp.asarray(s)) for s in horizons]

    def run() -> list[Any]:
        return jax.block_until_ready([call(start, s) for call, s in calls])  # cells are queued without waiting

    return run

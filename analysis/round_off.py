r"""Round-off of a loss gradient, and noise of a flow: two estimates that need no second precision.

**A loss gradient**: Monte Carlo arithmetic, one operation at a time.

Two evaluations of a loss round alike, so comparing them shows nothing of its own round-off: :math:`p_0 - 1` of a
softmax cross entropy with :math:`1 - p_0 = 10^{-14}` has two correct digits, and every state nearby loses the same
digits. Monte Carlo arithmetic makes round-off visible: each result of each operation, forward and backward, is
multiplied by :math:`1 \pm \epsilon` with random signs, and the spread of the results estimates the error of the plain
evaluation. Fused derivative formulas (such as the softmax's) are first split into their operations, since cancellation
inside one operation does not show in its result.

**A flow**: the noise of a function along a line, from high-order differences of its values at points so close together
that the smooth part cancels (``noise_level``). It measures rounding of every kind, including that of a state or a time
to single precision inside the function.

Sources: Parker 1997, *Monte Carlo Arithmetic* (UCLA CSD-970002); Vignes 1993, *A stochastic arithmetic for reliable
scientific computation* (Math. Comput. Simul. 35); Moré & Wild 2011, *Estimating computational noise* (SIAM J. Sci.
Comput. 33).

**Not measured** by Monte Carlo arithmetic: round-off inside one operation that is not split (a matrix product, a
convolution, an attention kernel: their inputs and results are perturbed, not their partial sums), inside TorchScript,
or outside torch; and constants that are wrong by more than the last digit, as those stored in single precision are.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analysis.losses import Loss

NOISE_POINTS, FIRST_ORDER = 7, 4


def last_digits(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return x with every entry multiplied by 1 + eps or 1 - eps of its dtype, with random signs drawn on the CPU."""
    signs = 2 * torch.randint(2, x.shape, generator=generator, dtype=torch.int8) - 1
    return x * (1 + torch.finfo(x.dtype).eps * torch.empty_like(x).copy_(signs))


def noise_level(values: Tensor) -> float:
    """Estimate the noise in values (``NOISE_POINTS``, ...) at evenly spaced points: a root mean square over (...).

    The k-th differences of independent errors have (2k)!/(k!)^2 times their variance. Of the orders from
    ``FIRST_ORDER`` on, the least estimate is taken, as the smooth part can only add to it.

    Returns
    -------
    float
        In units of the values.
    """
    estimates, differences = [], values.double()
    for k in range(1, len(values)):
        differences = differences.diff(dim=0)
        estimates.append(float((differences.square().mean() / math.comb(2 * k, k)).sqrt()))
    return min(estimates[FIRST_ORDER - 1 :])


def perturbed_gradient(loss: Loss, x: Tensor, generator: torch.Generator) -> Tensor:
    """Compute the loss gradient at x (B, *event) in perturbed arithmetic, with x itself perturbed as well.

    If a loss cannot run so (as compiled code may not), only x is perturbed, with a ``RuntimeWarning``.

    Returns
    -------
    Tensor
        (B, *event).
    """
    x = last_digits(x.detach(), generator)
    with torch.enable_grad():
        x.requires_grad_()
        try:
            with PerturbedArithmetic(generator):
                return torch.autograd.grad(loss(x).sum(), x)[0]
        except (RuntimeError, NotImplementedError, TypeError) as error:
            text = f"the loss does not run in perturbed arithmetic, so error bounds leave its round-off out: {error}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return torch.autograd.grad(loss(x).sum(), x)[0]


class PerturbedArithmetic(TorchDispatchMode):
    """A mode in which ``last_digits`` moves every new floating-point result of an operation.

    Views and results of operations without a tensor argument (``zeros``, ``arange``) are unchanged.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if "backward" in func.name() and func in _formulas():
            with self:
                result = _formulas()[func](*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            return result
        returns = func._schema.returns
        if not returns:
            return result
        if len(returns) > 1:
            return tuple(self._moved(v, r.alias_info) for v, r in zip(result, returns, strict=True))
        return self._moved(result, returns[0].alias_info)

    def _moved(self, value: Any, alias: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(self._moved(v, alias) for v in value)
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
            return value
        if alias is None:
            return last_digits(value, self.generator)
        return value.copy_(last_digits(value, self.generator)) if alias.is_write else value


@functools.cache
def _formulas() -> dict[Any, Callable[..., Any]]:
    """Return the operations of fused derivatives, as functions of the operation's own arguments."""
    return dict(torch.export.default_decompositions())

r"""Inverse problems :math:`y = A(x) + N(0, R)`, linear or not, with the negative log-likelihood as their loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.losses import HalfSquaredResidual, Loss
from analysis.operators.images import OPERATORS
from analysis.operators.linear import LinearOperator
from analysis.operators.nonlinear import NONLINEAR, NonlinearOperator


@dataclass(frozen=True)
class HalfSquaredMisfit:
    """L(x) = |A(x) - y|^2 / (2 noise^2) for any differentiable A; y is (m,) or (B, m)."""

    operator: Callable[[Tensor], Tensor]
    measurement: Tensor
    noise: float

    def __post_init__(self) -> None:
        checks.function(self.operator, "operator")
        object.__setattr__(self, "measurement", checks.array(self.measurement, "measurement"))
        object.__setattr__(self, "noise", checks.positive("noise", self.noise))

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the losses of x (B, d).

        Returns
        -------
        Tensor
            (B,).

        Raises
        ------
        ValueError
            For a measurement that does not fit A(x).
        """
        predicted, y = self.operator(x), self.measurement.to(x)
        if y.shape not in (predicted.shape, predicted.shape[1:]):
            raise ValueError(f"measurement must fit A(x), {tuple(predicted.shape)}, got {tuple(y.shape)}")
        return (predicted - y).square().sum(-1) / (2 * self.noise**2)


@dataclass(frozen=True)
class InverseProblem:
    """A measurement y = A(x) + N(0, noise^2 I) of flat images.

    Attributes
    ----------
    operator : A, linear or any other differentiable map
    noise : standard deviation, in units of y, where pixels span [-1, 1]; ``ValueError`` unless positive and finite
    name : of the operator

    Raises
    ------
    TypeError
        For an operator that is not a function.
    ValueError
        For noise that is not positive and finite.
    """

    operator: LinearOperator | NonlinearOperator
    noise: float
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", checks.positive("noise", self.noise))

    @property
    def linear(self) -> LinearOperator:
        """The operator, where it is linear.

        Raises
        ------
        ValueError
            Where the operator is not linear.
        """
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(f"operator must be linear for an exact posterior, got {type(self.operator).__name__}")
        return self.operator

    @property
    def noise_covariance(self) -> Tensor:
        """R = noise^2 I, (m, m)."""
        return self.noise**2 * torch.eye(self.operator.out_dim, dtype=torch.float64)

    def measure(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return noisy measurements (B, m) of images x (B, d), with noise from an explicit CPU generator."""
        clean = self.operator(x)
        return clean + self.noise * torch.randn(clean.shape, dtype=torch.float64, generator=generator).to(clean)

    def loss(self, y: Tensor) -> Loss:
        """Return -log p(y | x), up to a constant, for measurements y (B, m) or (m,)."""
        if isinstance(self.operator, LinearOperator):
            return HalfSquaredResidual(self.operator.matrix(), y, noise=self.noise)
        return HalfSquaredMisfit(self.operator, y, self.noise)

    def as_images(self, y: Tensor) -> Tensor:
        """Return measurements y (B, m) as images (B, d): by the pseudo-inverse, or y itself where A is nonlinear."""
        if isinstance(self.operator, LinearOperator):
            return y @ torch.linalg.pinv(self.operator.matrix()).T.to(y)
        return y


def inverse_problem(name: str, side: int, noise: float, **options: float) -> InverseProblem:
    """Make the named inverse problem of images of ``side`` x ``side`` pixels.

    Parameters
    ----------
    name : in ``OPERATORS`` or ``NONLINEAR``; ``options`` are the operator's own
    side, noise : as ``InverseProblem`` has them

    Returns
    -------
    InverseProblem
        (B, side^2) to (B, m).

    Raises
    ------
    ValueError
        For an unknown name, and for a side, noise or option that is not allowed.
    """
    operators: dict[str, Callable[..., LinearOperator | NonlinearOperator]] = {**OPERATORS, **NONLINEAR}
    make = operators[checks.known("name", name, operators)]
    return InverseProblem(make(checks.count("side", side), **options), noise, name)

"""Linear measurement operators, y = A x, as a pair of batched functions: x (B, d) -> (B, m) and its adjoint.

The two are tested against each other when an operator is made; ``matrix()`` is the dense A (m, d). Adjoints of torch
functions are computed by reverse-mode differentiation, which is exact for a linear function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import checks
from analysis.norms import norms

Map = Callable[[Tensor], Tensor]
TOLERANCE = 1e-9  # of the dot-product test, relative to the norms: far above round-off, far below any wrong factor


@dataclass(frozen=True)
class LinearOperator:
    """A linear map of flat vectors and its adjoint.

    Parameters
    ----------
    forward : x (B, in_dim) -> (B, out_dim), for any B and in float64
    adjoint : y (B, out_dim) -> (B, in_dim), its transpose
    in_dim, out_dim : d and m

    Raises ``ValueError`` that names the argument for functions that return another shape or dtype, and where
    <A x, y> = <x, A^T y> fails for three random pairs of x and y.

    Raises
    ------
    TypeError
        For a forward or adjoint that is not a function.
    ValueError
        For functions that return another shape or dtype, and if <A x, y> = <x, A^T y> fails for three random pairs of x
        and y; the message names the argument.
    """

    forward: Map
    adjoint: Map
    in_dim: int
    out_dim: int

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for name in ("forward", "adjoint"):
            checks.function(getattr(self, name), name)
        sizes = checks.count("in_dim", self.in_dim), checks.count("out_dim", self.out_dim)
        x, y = (torch.randn(3, size, dtype=torch.float64, generator=generator) for size in sizes)
        ax, aty = _applied("forward", self.forward, x, y), _applied("adjoint", self.adjoint, y, x)
        size = torch.maximum(norms(ax) * norms(y), norms(x) * norms(aty))
        error = (torch.linalg.vecdot(ax, y) - torch.linalg.vecdot(x, aty)).abs()
        if bool((error > TOLERANCE * size).any()):
            worst = float((error / size).max())
            raise ValueError(f"adjoint must be the transpose of forward: <A x, y> and <x, A^T y> differ by {worst:.3g}")

    def __call__(self, x: Tensor) -> Tensor:
        """Apply A to x (B, d).

        Returns
        -------
        Tensor
            (B, m).

        Raises
        ------
        ValueError
            For x of another shape.
        """
        if x.ndim != 2 or x.shape[1] != self.in_dim:
            raise ValueError(f"x must have shape (B, {self.in_dim}), got {tuple(x.shape)}")
        return self.forward(x)

    def matrix(self) -> Tensor:
        """Return A (m, d) in float64: the operator applied to the identity."""
        return self.forward(torch.eye(self.in_dim, dtype=torch.float64)).T.contiguous()


def _applied(name: str, function: Map, x: Tensor, like: Tensor) -> Tensor:
    value = function(x)
    if not isinstance(value, Tensor) or value.shape != like.shape or value.dtype != like.dtype:
        got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        expected = f"{tuple(x.shape)} to {tuple(like.shape)} {like.dtype}"
        raise ValueError(f"{name} must map {expected}, got {got}")
    return checks.finite(f"{name}'s value", value)


def from_forward(forward: Map, in_dim: int) -> LinearOperator:
    """Make the operator of a linear torch function x (B, in_dim) -> (B, m), with its adjoint by differentiation.

    Returns
    -------
    LinearOperator
        (B, in_dim) to (B, m).

    Raises
    ------
    TypeError
        For a ``forward`` that is not a function.
    ValueError
        For a ``forward`` of another shape, or one that is not linear.
    """
    checks.function(forward, "forward")
    in_dim = checks.count("in_dim", in_dim)
    zero = torch.zeros(1, in_dim, dtype=torch.float64)
    image = forward(zero)
    if not isinstance(image, Tensor) or image.ndim != 2 or len(image) != 1:
        raise ValueError(f"forward must map (B, {in_dim}) to (B, m), got {checks.kind(image)} for B = 1")

    def adjoint(y: Tensor) -> Tensor:
        return torch.func.vjp(forward, y.new_zeros(len(y), in_dim))[1](y)[0]

    return LinearOperator(forward, adjoint, in_dim, image.shape[1])


def from_matrix(matrix: Tensor) -> LinearOperator:
    """Make the operator of a matrix A (m, d).

    Returns
    -------
    LinearOperator
        (B, d) to (B, m).

    Raises
    ------
    TypeError
        For a matrix that is not an array of real numbers.
    ValueError
        For a matrix that is not (m, d) or not finite.
    """
    a = checks.array(matrix, "matrix")
    if a.ndim != 2 or 0 in a.shape:
        raise ValueError(f"matrix must have shape (m, d), got {tuple(a.shape)}")
    return LinearOperator(lambda x: x @ a.to(x).T, lambda y: y @ a.to(y), a.shape[1], a.shape[0])


def as_matrix(A: Tensor | LinearOperator) -> Tensor:
    """Return a measurement operator, or a matrix, as a matrix (m, d); raises ``ValueError`` for another shape."""
    if isinstance(A, LinearOperator):
        return A.matrix()
    matrix = checks.array(A, "A", 2)
    if not matrix.numel():
        raise ValueError(f"A must have shape (m, d), got {tuple(matrix.shape)}")
    return matrix

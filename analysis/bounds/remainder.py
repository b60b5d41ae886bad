r"""Bounds of the greedy gradient's error from the trajectory: their derivation, and their numerics.

**Zeta coordinates.** With :math:`y = x/\alpha` and :math:`z = \zeta = \sigma/\alpha` every affine path obeys
:math:`dy/dz = \hat x_0(y, z)`, z falling from :math:`\zeta_t` to 0, and :math:`y(0) = \Phi_{t,1}(x)` where
:math:`\alpha_1 = 1, \sigma_1 = 0`. Since :math:`x = \alpha\hat x_1 + \sigma\hat x_0`, the target prediction is the
tangent followed to z = 0, :math:`\hat x_1 = y - z y'`.

**The remainder** (D1). Taylor's formula with integral remainder, expanded at :math:`\zeta` and evaluated at 0, is

.. math:: \Phi - \hat x_1 = y(0) - y(\zeta) + \zeta y'(\zeta) = \int_0^\zeta z\, y''(z)\, dz .

It holds for every start, so it may be differentiated in it:
:math:`D\Phi - D\hat x_1 = \int_0^\zeta z\, D y''(z)\, dz`, where :math:`D y''(z) = \nabla F(y(z), z) J(z)`, with
:math:`y'' = F(y, z)` and :math:`J(z) = \partial y(z) / \partial y(\zeta)`, which solves :math:`J' = D\hat x_0 J`.

**The gradients.** With :math:`v = \nabla L(\Phi)` and :math:`\ell` a Lipschitz constant of :math:`\nabla L`,

.. math::
    g^* - g &= (D\Phi - D\hat x_1)^T v + D\hat x_1^T (\nabla L(\Phi) - \nabla L(\hat x_1)), \\
    |g^* - g| &\le \int_0^\zeta z\, |D y''(z)^T v|\, dz + \|D\hat x_1\|\, \ell \int_0^\zeta z\, |y''(z)|\, dz .

That is the *integral form*, sharper than with :math:`\|D y''\| |v|`, which needs no v. The *sup form* replaces
:math:`\int z f dz` by :math:`\zeta^2/2 \sup f`. Gradients in x are those in y divided by :math:`\alpha_t`.

**Numerics.** Flow and sensitivity are integrated with Dormand-Prince 5 in :math:`\tau`, :math:`z = c\sinh\tau`, in
which one Gaussian of standard deviation c is a plain exponential; the integrals use Simpson's rule on the same nodes.
Callers do it with two step sizes: the difference tells the error of trajectory and quadrature. What the bounds are
compared with must come from elsewhere (``analysis.reference``): by the triangle inequality the integral of any f, plus
its distance to the remainder of the same trajectory, bounds that remainder, whether f is the second derivative or not.
The integrals of the vectors, ``Remainder.moved`` and ``pulled_back``, are equal to the remainders only for the right
one, and so test its sign and direction as well.
Source: this project (D1, D2 of the theory), Taylor's formula.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from analysis.solvers.tableaux import TABLEAUX

TABLEAU = TABLEAUX["dopri5"]


class Field(Protocol):
    """The source prediction of M flows at once in zeta coordinates: states y (M, B, d), noise-to-data ratio z (M,).

    Its Jacobian must be symmetric, as that of an exact flow is, being a Hessian of the log-density.
    """

    def source(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x0hat (M, B, d) and its Jacobian in y (M, B, d, d)."""
        ...

    def curvature(self, y: Tensor, z: Tensor) -> Tensor:
        """Return F(y, z) = y'' along the trajectory, (M, B, d), differentiable in y by autograd."""
        ...


@dataclass(frozen=True)
class Trajectory:
    """Exact trajectories between checkpoints, C segments of N steps each.

    Attributes
    ----------
    z, weight : (C, N + 1, M), nodes, and the weights of Simpson's rule for integrals over z on each segment
    state : (C, N + 1, M, B, d), y at the nodes
    source_jacobian, jacobian : (C, N + 1, M, B, d, d), D x0hat at the nodes, and dy(node) / dy(start of the segment)
    """

    z: Tensor
    weight: Tensor
    state: Tensor
    source_jacobian: Tensor
    jacobian: Tensor

    @property
    def end(self) -> Tensor:
        """The state (M, B, d) at the last checkpoint."""
        return self.state[-1, -1]

    def pull(self, v: Tensor) -> Tensor:
        """Return the pullback of v (M, B, d) from the end to the start."""
        for jacobian in reversed(self.jacobian[:, -1]):
            v = transposed(jacobian, v)
        return v


def transposed(jacobian: Tensor, v: Tensor) -> Tensor:
    """Return J^T v for J (..., d, d) and v (..., d)."""
    return (v[..., None, :] @ jacobian)[..., 0, :]


def norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm (...) of v (..., d) over its last axis."""
    return torch.linalg.vector_norm(v, dim=-1)


def trajectory(field: Field, y: Tensor, checkpoints: Tensor, scale: Tensor, steps: int) -> Trajectory:
    """Integrate from y (M, B, d) through falling ``checkpoints`` (C + 1, M), ``steps`` (even) per segment.

    ``scale`` (M,) is c in z = c sinh(tau); the smallest standard deviation of the data resolves every stage.

    Returns
    -------
    Trajectory
        Of C segments.
    """
    tau = torch.asinh(checkpoints / scale)
    fraction = torch.linspace(0, 1, steps + 1, dtype=y.dtype)[:, None]
    segments = []
    for begin, end in itertools.pairwise(tau):
        nodes = begin + fraction * (end - begin)
        segments.append((nodes, *_segment(field, y, nodes, scale)))
        y = segments[-1][1][-1]
    nodes, *parts = (torch.stack(part) for part in zip(*segments, strict=True))
    simpson = torch.ones(steps + 1, dtype=y.dtype)
    simpson[1:-1:2], simpson[2:-1:2] = 4.0, 2.0
    spacing = (tau[:-1] - tau[1:])[:, None] / (3 * steps)
    z, weight = scale * torch.sinh(nodes), simpson[:, None] * spacing * scale * torch.cosh(nodes)
    return Trajectory(z, weight, *parts)


def _segment(field: Field, y: Tensor, tau: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return states, source Jacobians and sensitivities at the nodes tau (N + 1, M)."""
    jacobian = torch.eye(y.shape[-1], dtype=y.dtype).expand(*y.shape, -1).contiguous()
    visited = []
    for begin, h in zip(tau[:-1], tau.diff(dim=0), strict=True):
        source, y_next, jacobian_next = _step(field, y, jacobian, begin, h, scale)
        visited.append((y, source, jacobian))
        y, jacobian = y_next, jacobian_next
    visited.append((y, field.source(y, scale * torch.sinh(tau[-1]))[1], jacobian))
    states, sources, jacobians = (torch.stack(part) for part in zip(*visited, strict=True))
    return states, sources, jacobians


def _step(
    field: Field, y: Tensor, jacobian: Tensor, tau: Tensor, h: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return D x0hat at the start of one step, and the state and sensitivity at its end."""
    rates: list[tuple[Tensor, Tensor]] = []
    first = None
    for row, node in zip((*TABLEAU.a, TABLEAU.b), (*TABLEAU.c, None), strict=True):
        used = [(h * a, rate) for a, rate in zip(row, rates, strict=True) if a]
        here = y + sum(a[:, None, None] * rate[0] for a, rate in used)
        tangent = jacobian + sum(a[:, None, None, None] * rate[1] for a, rate in used)
        if node is None:
            break
        stage = tau + node * h
        source, derivative = field.source(here, scale * torch.sinh(stage))
        first = derivative if first is None else first
        speed = (scale * torch.cosh(stage))[:, None, None]
        rates.append((speed * source, speed[..., None] * (derivative @ tangent)))
    assert first is not None
    return first, here, tangent


@dataclass(frozen=True)
class Remainder:
    """Integrals of z f dz and suprema of f over the nodes, as D1 needs them, (M, B) each.

    Attributes
    ----------
    curved, pulled : (M, B), integrals of z f dz for f = |y''| and f = |(D y'')^T v|, v the loss's gradient at the end
    sup_curved, sup_pulled : (M, B), suprema of the two f over the nodes
    moved, pulled_back : (M, B, d), integrals of the vectors z y'' dz = Phi - x1hat and
        z (D y'')^T v dz = (D Phi - D x1hat)^T v, in y
    """

    curved: Tensor
    pulled: Tensor
    sup_curved: Tensor
    sup_pulled: Tensor
    moved: Tensor
    pulled_back: Tensor

    def integral_form(self, target_norm: Tensor, lipschitz: Tensor | float) -> Tensor:
        """Return the bound (M, B) of |g - g*| in y; ``target_norm`` (M, B) is the operator norm of D x1hat in y."""
        return self.pulled + target_norm * lipschitz * self.curved

    def sup_form(self, target_norm: Tensor, lipschitz: Tensor | float, zeta: Tensor) -> Tensor:
        """Return the bound (M, B) with zeta^2/2 times suprema in place of integrals; zeta (M,)."""
        sup = self.sup_pulled + target_norm * lipschitz * self.sup_curved
        return zeta[:, None].square() / 2 * sup


def remainder(field: Field, path: Trajectory, v: Tensor) -> Remainder:
    """Return the integrals and suprema of D1 along trajectories, for the loss's gradients v (M, B, d) at their ends."""
    count, batch, dim = v.shape
    before = torch.eye(dim, dtype=v.dtype).expand(count, batch, dim, dim)
    terms = []
    for z, weight, state, jacobian in zip(path.z, path.weight, path.state, path.jacobian, strict=True):
        for i in range(len(z)):
            curvature, pulled = _curvature(field, state[i], z[i], v)
            pulled = transposed(before, transposed(jacobian[i], pulled))
            terms.append(((z[i] * weight[i])[:, None, None], curvature, pulled))
        before = jacobian[-1] @ before
    factor, *vectors = (torch.stack(part) for part in zip(*terms, strict=True))
    sizes = [norm(f) for f in vectors]
    integrals = [(factor[..., 0] * size).sum(0) for size in sizes]
    return Remainder(*integrals, *(size.amax(0) for size in sizes), *((factor * f).sum(0) for f in vectors))


def _curvature(field: Field, y: Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return F(y, z) and the product of its Jacobian's transpose with v."""
    y = y.detach().requires_grad_()
    with torch.enable_grad():
        value = field.curvature(y, z)
        (pulled,) = torch.autograd.grad(value, y, v)
    return value.detach(), pulled


def target_norm(source_jacobian: Tensor, z: Tensor) -> Tensor:
    """Return the operator norm (M, B) of D x1hat = I - z D x0hat in y, symmetric, for z (M,)."""
    eigenvalues = torch.linalg.eigvalsh(source_jacobian)
    return (1 - z[:, None, None] * eigenvalues).abs().amax(-1)

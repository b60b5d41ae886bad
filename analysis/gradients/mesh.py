r"""Error estimate from the curvature of discrete adjoints, and the mesh that equidistributes it.

Time runs from 0 to 1 over a solve. Of adjoints :math:`a_0, ..., a_n` at the nodes, :math:`m_i` the divided differences
between them and :math:`h_i` the mean of the steps before and after node i,

.. math:: c_i = \frac{|m_i - m_{i-1}|}{h_i\,|a_i|} \approx \frac{|a''|}{|a|}, \qquad
          q = \sum_i h_i^2 c_i, \qquad p = \sum_i h_i^3 c_i

are the relative curvature at interior nodes; the sum of the adjoint's turns over the steps; and the same sum weighted
with the steps: q/n for equal steps. The error of a method of order two is in proportion to p.

**The best steps.** Among meshes with n steps, :math:`h \propto c^{-1/2}` has the least :math:`\int h^2 c`, by the
inequality of Cauchy and Schwarz; it falls as n^-2 (equidistribution: de Boor 1973, "Good approximation by splines with
variable knots"). A solve does not see all of the curvature, so a share of the steps stays evenly spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.errors import relative
from analysis.norms import scaled
from analysis.paths import expand

EVEN = 0.3  # share of the steps that are spread evenly


@dataclass(frozen=True)
class Mesh:
    """Steps of B solves, as piecewise linear maps from times in [0, 1] to the share of steps taken by then.

    Attributes
    ----------
    nodes : (B, M + 1), times from 0 to 1
    cumulative_steps : (B, M + 1), the share of the steps that end by these times, from 0 to 1
    """

    nodes: Tensor
    cumulative_steps: Tensor

    @classmethod
    def equal(cls, count: int, most: int, like: Tensor) -> Mesh:
        """Return equal steps for ``count`` solves, with room for any refinement of at most ``most`` steps."""
        line = torch.linspace(0, 1, most + 1, dtype=like.dtype, device=like.device).repeat(count, 1)
        return cls(line, line.clone())

    def place(self, index: Tensor, n: int) -> Tensor:
        """Return the nodes (n + 1, C) of n steps of the solves in ``index`` (C,)."""
        times, shares = self.nodes[index], self.cumulative_steps[index]
        wanted = torch.linspace(0, 1, n + 1, dtype=shares.dtype, device=shares.device).repeat(len(index), 1)
        cell = (torch.searchsorted(shares, wanted, right=True) - 1).clamp(0, shares.shape[1] - 2)
        low, high = shares.gather(1, cell), shares.gather(1, cell + 1)
        fraction = (wanted - low) / (high - low).clamp_min(torch.finfo(shares.dtype).tiny)
        start = times.gather(1, cell)
        nodes = (start + fraction * (times.gather(1, cell + 1) - start)).T.contiguous()
        nodes[0], nodes[-1] = 0, 1
        return nodes

    def refine(self, index: Tensor, nodes: Tensor, curvature: Tensor) -> Tensor:
        """Equidistribute the steps of the solves in ``index``, from the adjoint curvature of their previous solve.

        Where the curvature is not finite, the steps are equal.

        Parameters
        ----------
        index : (C,)
        nodes, curvature : (n + 1, C) and (n - 1, C), of the previous solve

        Returns n^2 p (C,) for n such steps. Where the curvature is not finite, steps are equal and that is infinite.

        Returns
        -------
        Tensor
            n^2 p (C,) for n such steps, infinite where the curvature is not finite.
        """
        steps = nodes.diff(dim=0)
        ends = torch.cat([curvature[:1], curvature, curvature[-1:]])
        inside = (ends[1:] + ends[:-1]) / 2
        usable = torch.isfinite(inside).all(0)
        root = inside.where(usable, torch.ones_like(inside)).sqrt()
        mean = (root * steps).sum(0)
        density = torch.where(mean > 0, EVEN + (1 - EVEN) * root / mean, 1.0)
        share = (density * steps).cumsum(0)
        last = len(nodes)
        self.nodes[index], self.cumulative_steps[index] = 1.0, 1.0
        self.nodes[index, :last] = nodes.T
        self.cumulative_steps[index, 1 : last - 1], self.cumulative_steps[index, 0] = share[:-1].T, 0.0
        return torch.where(usable, (inside / density.square() * steps).sum(0), torch.inf)


def adjoint_curvature(adjoints: Tensor, nodes: Tensor) -> Tensor:
    """Return c (n - 1, C) of adjoints (n + 1, C, *event) at nodes (n + 1, C)."""
    count, steps = adjoints.shape[1], nodes.diff(dim=0)
    differences = adjoints.diff(dim=0) / expand(steps, adjoints)
    changes = relative(differences.diff(dim=0).flatten(0, 1), adjoints[1:-1].flatten(0, 1)).unflatten(0, (-1, count))
    return changes / _mean_steps(nodes)


def curvature_sums(curvature: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Return p and q (C,) of the curvature (n - 1, C) at the nodes (n + 1, C)."""
    steps = _mean_steps(nodes)
    return (steps**3 * curvature).sum(0), (steps.square() * curvature).sum(0)


def turn_and_growth(adjoints: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest turn between neighbouring nodes, and the growth along the way, of adjoints at the nodes.

    Parameters
    ----------
    adjoints : (n + 1, C, *event)

    Returns
    -------
    tuple
        The largest 1 - cos of the angle between neighbours, 0 where one of them is zero; and the norm of the gradient,
        the first adjoint, over that of the shortest adjoint: (C,) each.
    """
    rows, power = scaled(adjoints.flatten(0, 1))
    length = torch.linalg.vector_norm(rows, dim=1)
    units = (rows / length[:, None]).unflatten(0, (-1, adjoints.shape[1]))
    sizes = (length * power).unflatten(0, (-1, adjoints.shape[1]))
    return (units.diff(dim=0).square().sum(2) / 2).amax(0).nan_to_num(), sizes[0] / sizes.amin(0)


def _mean_steps(nodes: Tensor) -> Tensor:
    return (nodes[2:] - nodes[:-2]) / 2

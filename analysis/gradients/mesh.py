r"""How much the adjoints of a solve bend, what that says of its error, and the steps with which that is least.

Time is counted from 0 to 1 over a solve. Of adjoints :math:`a_0, ..., a_n` at the nodes, :math:`m_i` the slopes between
them and :math:`h_i` the mean of the steps before and after node i,

.. math:: c_i = \frac{|m_i - m_{i-1}|}{h_i\,|a_i|} \approx \frac{|a''|}{|a|}, \qquad
          q = \sum_i h_i^2 c_i, \qquad p = \sum_i h_i^3 c_i

are the curvature at interior nodes, how much the adjoint bends over a step, summed, and the same weighted with the
steps: q/n where they are equal. A method of order two errs in proportion to p.

**The best steps.** Of all with n steps those with :math:`h \propto c^{-1/2}` have the least :math:`\int h^2 c`, by the
inequality of Cauchy and Schwarz; it falls as n^-2 (equidistribution: de Boor 1973, "Good approximation by splines with
variable knots"). The curvature that a solve has seen is not all there is, so a share of the steps stays spread evenly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.errors import relative
from analysis.paths import expand

EVEN = 0.3  # share of the steps that are spread evenly


@dataclass(frozen=True)
class Mesh:
    """Steps of B solves, as piecewise linear maps: ``levels`` (B, M + 1) is the share of the steps until ``places``."""

    places: Tensor
    levels: Tensor

    @classmethod
    def equal(cls, count: int, most: int, like: Tensor) -> Mesh:
        """Return equal steps for ``count`` solves, and room for any refinement with at most ``most`` steps."""
        line = torch.linspace(0, 1, most + 1, dtype=like.dtype, device=like.device).repeat(count, 1)
        return cls(line, line.clone())

    def nodes(self, who: Tensor, n: int) -> Tensor:
        """Return the nodes (n + 1, C) of n steps of the solves ``who`` (C,)."""
        places, levels = self.places[who], self.levels[who]
        wanted = torch.linspace(0, 1, n + 1, dtype=levels.dtype, device=levels.device).repeat(len(who), 1)
        at = (torch.searchsorted(levels, wanted, right=True) - 1).clamp(0, levels.shape[1] - 2)
        low, high = levels.gather(1, at), levels.gather(1, at + 1)
        share = (wanted - low) / (high - low).clamp_min(torch.finfo(levels.dtype).tiny)
        start = places.gather(1, at)
        found = (start + share * (places.gather(1, at + 1) - start)).T.contiguous()
        found[0], found[-1] = 0, 1
        return found

    def refine(self, who: Tensor, nodes: Tensor, curvature: Tensor) -> Tensor:
        """Set the best steps of the solves ``who``, given the curvature at the nodes of their last ones.

        Returns n^2 p (C,) for n such steps. Where the curvature is not finite, steps are equal and that is infinite.
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
        self.places[who], self.levels[who] = 1.0, 1.0
        self.places[who, :last] = nodes.T
        self.levels[who, 1 : last - 1], self.levels[who, 0] = share[:-1].T, 0.0
        return torch.where(usable, (inside / density.square() * steps).sum(0), torch.inf)


def curvature(adjoints: Tensor, nodes: Tensor) -> Tensor:
    """Return c (n - 1, C) of adjoints (n + 1, C, *event) at nodes (n + 1, C)."""
    count, steps = adjoints.shape[1], nodes.diff(dim=0)
    slopes = adjoints.diff(dim=0) / expand(steps, adjoints)
    changes = relative(slopes.diff(dim=0).flatten(0, 1), adjoints[1:-1].flatten(0, 1)).unflatten(0, (-1, count))
    return changes / _mean_steps(nodes)


def bends_of(curvature: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Return p and q (C,) of the curvature at the nodes."""
    steps = _mean_steps(nodes)
    return (steps**3 * curvature).sum(0), (steps.square() * curvature).sum(0)


def _mean_steps(nodes: Tensor) -> Tensor:
    return (nodes[2:] - nodes[:-2]) / 2

r"""A flow in the time and scale of the cosine path, in which every affine path is regular at both ends.

Every affine path is the cosine path after a change of time and of scale: at equal :math:`\zeta = \sigma/\alpha` their
states differ by the ratio of their radii :math:`\sqrt{\alpha^2 + \sigma^2}`, and the cosine path's radius is one
(``at_equal_zeta``). On the cosine path the velocity is smooth and finite from noise to data, so references and fine
solves use it, whatever the flow's own path.

The map of the flow is then :math:`\Phi_{t,1} = S_1 \circ \Phi^{\cos} \circ S_t^{-1}`, with :math:`S_s` the
multiplication by the radius at s: ``enter`` divides by it at t, and ``leave`` multiplies by it at 1. Each is its own
transpose, so the same two functions pull a gradient back: ``enter(pull(leave(loss_gradient)))``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from analysis.flow import Flow
from analysis.paths import AffinePath, Cosine, expand

CANONICAL = Cosine()


@dataclass(frozen=True)
class CanonicalView:
    """A flow on the canonical path, from given times to the end.

    Attributes
    ----------
    flow : the flow along ``CANONICAL``
    begin, end : () or (B,), the canonical times of t and of 1
    begin_scale, end_scale : () or (B,), the radius of the flow's own path at t and at 1
    """

    flow: Flow
    begin: Tensor
    end: Tensor
    begin_scale: Tensor
    end_scale: Tensor

    def enter(self, x: Tensor) -> Tensor:
        """Map states (B, *event) at t to the canonical path, or a gradient there to the own path's states."""
        return x / expand(self.begin_scale, x)

    def leave(self, y: Tensor) -> Tensor:
        """Map endpoints (B, *event) to the own path, or a loss gradient there to canonical states."""
        return expand(self.end_scale, y) * y

    def select_rows(self, rows: Tensor) -> CanonicalView:
        """Return the view of the samples with indices ``rows`` (C,), where each has its own time."""
        flow = self.flow.select_rows(rows)
        return replace(self, flow=flow, begin=self.begin[rows], begin_scale=self.begin_scale[rows])


def canonical_time(path: AffinePath, t: Tensor | float) -> Tensor:
    """Return the time, like t, at which the canonical path has the zeta of ``path`` at t."""
    return CANONICAL.time_from_zeta(path.zeta(t))


def view(flow: Flow, t: Tensor) -> CanonicalView:
    """Return the flow on the canonical path from times t, () or (B,)."""
    path, one = flow.path, t.new_ones(())
    begin, end = (canonical_time(path, s) for s in (t, one))
    return CanonicalView(flow.with_path(CANONICAL), begin, end, path.radius(t), path.radius(one))

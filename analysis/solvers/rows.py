"""Solves of some samples of a batch, while the others are unchanged."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from analysis.flow import Flow, Pullback

Solve = Callable[[Flow, Tensor, Tensor | None], tuple[Tensor, Pullback]]


def of_rows(value: Tensor, rows: Tensor | None) -> Tensor:
    """Return entries ``rows`` of a time or mask (B,); a scalar (), or any value for ``rows`` = ``None``, as it is."""
    return value if rows is None or value.ndim == 0 else value.expand(max(len(value), int(rows.max()) + 1))[rows]


def on_rows(flow: Flow, x: Tensor, mask: Tensor, solve: Solve, dim: int = 0) -> tuple[Tensor, Pullback]:
    """Solve the samples for which ``mask``, () or (B,), is true.

    ``x`` has the B samples along axis ``dim``. ``solve(flow, x, rows)`` returns an end and its pullback for the samples
    with indices ``rows``, or for all of them where ``rows`` is ``None``.

    Returns
    -------
    tuple
        The states of all samples, and their pullback.
    """
    mask = mask.expand(x.shape[dim])
    if bool(mask.all()):
        return solve(flow, x, None)
    rows = mask.nonzero()[:, 0].to(x.device)
    if not len(rows):
        return x, lambda v: v
    end, pull = solve(flow.select_rows(rows), x.index_select(dim, rows), rows)
    return (
        x.index_copy(dim, rows, end),
        lambda v: v.index_copy(dim, rows, pull(v.index_select(dim, rows))),
    )

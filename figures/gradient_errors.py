"""The error of each gradient over time, against the ideal gradient and against the likelihood score."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("which_gradient_error_times", "which_gradient_facts")
QUESTION = "Which gradient is near the ideal gradient, which near the likelihood score, and when?"
answer = style.Caption(
    "Early {ideal_first!g} is nearest to the ideal gradient, and {score_first!g} to the likelihood score.",
    "At t = {first_time:.2g} their errors are {ideal_first_error:.2f} and {score_first_error:.2f}.",
    "At t = {last_time:.2g} the nearest are {ideal_last!g} ({ideal_last_error:.3f}) and {score_last!g} "
    "({score_last_error:.2f}).",
    "The error is that after the best rescaling: the sine of the angle to the reference. "
    "States of the exact posterior sampler; means over {operators!p:operator}, 95% intervals.",
)
TRUTHS = {"ideal": "to the ideal gradient", "score": "to the likelihood score"}


@style.figure(legend=3)
def draw(tables: style.Tables) -> Figure:
    """Draw a panel per reference, the error of each gradient over time."""
    table = tables["which_gradient_error_times"]
    figure, axes = style.panels(len(TRUTHS), len(TRUTHS), 2.2, 0.6, sharey=True)
    for ax, (truth, title) in zip(axes, TRUTHS.items(), strict=True):
        for name, rows in style.groups(only(table, truth=truth), "estimator"):
            style.band(ax, rows, "t", "mean", label=names.sampler(name), **style.sampler(name))
        ax.set(title=f"error {title}", xlabel="t")
        style.from_zero(ax.yaxis)
    axes[0].set_ylabel("relative error")
    return figure

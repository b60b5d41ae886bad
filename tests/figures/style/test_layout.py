"""The shell and the marks. The truths are hand-made tables, and what matplotlib says it has drawn."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from figures import style


def panel():
    return plt.subplots()[1]


def test_as_many_panels_as_are_asked_for_and_none_is_refused():
    figure, axes = style.panels(5, 3, 1.0)
    assert len(axes) == len(figure.axes) == 5
    assert figure.get_size_inches()[0] == style.TEXT_WIDTH
    with pytest.raises(ValueError, match="nothing to draw"):
        style.panels(0, 3, 1.0)


def test_the_shell_letters_several_panels_and_shows_in_the_legend_what_is_drawn_once():
    @style.figure(legend=3)
    def draw(tables):
        figure, axes = style.panels(2, 2, 1.0)
        for ax in axes:
            ax.errorbar([1], [2], yerr=[1], marker="o", label="measured")
        axes[1].plot([1], [1], label="theory")
        return figure

    figure = draw({})
    assert [ax.texts[0].get_text() for ax in figure.axes] == ["a", "b"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["measured", "theory"]
    assert all(hasattr(handle, "get_marker") for handle in figure.legends[0].legend_handles)


def test_groups_come_in_the_order_of_the_table_and_missing_values_are_none():
    table = pd.DataFrame({"a": ["y", "x", "y"], "b": [1.0, np.nan, 1.0], "n": [0, 1, 2]})
    assert [(key, list(rows["n"])) for key, rows in style.groups(table, "a")] == [("y", [0, 2]), ("x", [1])]
    assert [key for key, _ in style.groups(table, "a", "b")] == [("y", 1.0), ("x", None)]


def test_error_bars_end_where_the_table_says():
    rows = pd.DataFrame({"value": [1.0, 2.0], "low": [0.5, np.nan], "high": [3.0, np.nan]})
    ax = panel()
    style.errorbars(ax, [10, 20], rows, color="black")
    (segments,) = [collection.get_segments() for collection in ax.collections]
    assert segments[0].tolist() == [[10, 0.5], [10, 3.0]]
    ax = panel()
    style.errorbars(ax, [10], {"mean": 1.0, "low": 0.5, "high": 3.0}, "mean", along="x", color="black")
    (segments,) = [collection.get_segments() for collection in ax.collections]
    assert segments[0].tolist() == [[0.5, 10], [3.0, 10]]


def test_a_power_law_has_its_slope():
    ax = panel()
    style.power_law(ax, [0.1, 10], 3.0, 2)
    x, y = ax.lines[0].get_data()
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx([2])
    assert ax.texts[0].get_text() == "slope 2"


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(1e-8, 1.0, ["$10^{-8}$", "$10^{-4}$", "$10^{0}$"]), (0.5, 200, ["$10^{0}$", "$10^{1}$", "$10^{2}$"])],
)
def test_decades_are_few(low, high, labels):
    ax = panel()
    ax.set(xscale="log", xlim=(low, high))
    style.decades(ax.xaxis)
    assert [text.get_text() for text in ax.get_xticklabels()] == labels


def test_two_lines_of_a_row_are_centred_on_its_tick_and_nearer_than_rows():
    ax = panel()
    style.rows_of_names(ax, ["source\noptimisation", "control\noptimisation"])
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
    ticks = [ax.transData.transform((0, y))[1] for y in (0, 1)]
    assert [(box.y0 + box.y1) / 2 for box in boxes] == pytest.approx(ticks, abs=1.5)
    assert all(text._linespacing == 1 for text in ax.get_yticklabels())


def test_doublings_are_powers_of_two_with_room():
    ax = panel()
    ax.plot([1, 1024], [0, 1])
    style.doublings(ax.xaxis, [1, 1024])
    assert ax.get_xticks().tolist() == [1, 4, 16, 64, 256, 1024]


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.24, 1.05, ["0.3", "1"]),  # matplotlib's own: 3 × 10⁻¹4 × 10⁻¹6 × 10⁻¹, and 10⁰
        (0.31, 1.4, ["0.5", "1"]),
        (2.1, 5.6, ["3", "4", "5"]),
        (3.1, 3.9, ["3.3", "3.6"]),
        (0.05, 20, ["$\\mathdefault{10^{-1}}$", "$\\mathdefault{10^{0}}$", "$\\mathdefault{10^{1}}$"]),
    ],
)
def test_a_logarithmic_axis_has_two_labels_or_more_and_none_on_its_minor_ticks(low, high, shown):
    @style.figure()
    def draw(tables):
        figure, (ax,) = style.panels(1, 1, 1.5)
        ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        return figure

    figure = draw({})
    figure.canvas.draw()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        inside = [t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
        assert inside == shown
        assert {t.label1.get_text() for t in axis.get_minor_ticks()} <= {""}


def test_ticks_that_were_set_by_hand_stay():
    @style.figure()
    def draw(tables):
        figure, (ax,) = style.panels(1, 1, 1.5)
        ax.set(xscale="log", xlim=(0.2, 0.9))
        style.ticks(ax.xaxis, [0.25, 0.7])
        return figure

    figure = draw({})
    figure.canvas.draw()
    assert [t.label1.get_text() for t in figure.axes[0].xaxis.get_major_ticks()] == ["0.25", "0.7"]


def test_an_axis_from_zero_leaves_room_for_values_that_lie_together():
    ax = panel()
    ax.plot([1, 2], [1.616, 1.617], "o")
    style.from_zero(ax.yaxis)
    low, high = ax.get_ylim()
    assert low == 0
    assert high > 1.04 * 1.617

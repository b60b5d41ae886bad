"""The table of guided molecules; the truth is what its published tables hold."""

import reproduce
from analysis import figure_files
from analysis.tables import only
from figures import molecules_table


def test_an_estimator_that_lost_most_of_its_molecules_has_no_best_error():
    _, tables, _ = figure_files.read(reproduce.PUBLISHED, "figures.molecules_table")
    pooled = only(tables["molecules_summary"], property="all", metric="error", over="all")
    last = pooled[pooled["budget"] == pooled.groupby(["setting", "estimator"])["budget"].transform("max")]
    losing = [i for i, share in enumerate(last["failed"] / last["measurements"]) if share > 0.2]
    drawing = molecules_table.draw(tables)
    best = {int(text.get_label().split()[0]) for text in drawing.axes[0].texts if text.get_fontweight() == "bold"}
    assert losing
    assert best
    assert not best & {*losing}

"""The cells of guided molecules. Truths: lists written by hand, and a copy of the sources that is edited.

What a cell measures is tested in ``tests/real_models/molecules/test_molecule_measuring.py``.
"""

import shutil

import pytest
import torch

from analysis import suite
from analysis.settings import Options
from analysis.sources import ROOMS, ROOT, Sources
from analysis.workers import Workers, WorkersError
from real_models.experiments import molecules
from real_models.molecules import chemistry, data, targets


def extra_is_there():
    for package in (chemistry.require, molecules.judging.xtb.require):
        try:
            package()
        except ImportError:
            return False
    return True


def test_all_estimators_of_a_batch_have_the_same_targets_and_other_batches_have_others():
    one, other, next_one = (
        molecules.cell(Options(), setting, name, batch)
        for setting, name, batch in (("source", "greedy", 0), ("controls", "midpoint", 0), ("source", "greedy", 1))
    )
    drawn = [targets.draw(2, cell.generator()) for cell in (one, other, next_one)]
    torch.testing.assert_close(drawn[0].x0, drawn[1].x0, rtol=0, atol=0)
    torch.testing.assert_close(drawn[0].wanted, drawn[1].wanted, rtol=0, atol=0)
    assert not torch.equal(drawn[0].wanted, drawn[2].wanted)
    assert other.seed == one.seed != next_one.seed


def test_all_estimators_of_a_setting_have_the_same_trials_and_budgets():
    for setting in molecules.BUDGETS:
        cells = [molecules.cell(Options(), setting, name, 0) for name in molecules.DIAL]
        assert len({(cell.extra_dict["trials"], cell.extra_dict["budgets"]) for cell in cells}) == 1
    assert len({*molecules.pairs()}) == 1 + len(molecules.BUDGETS) * len(molecules.DIAL)
    assert {name: len(count) for name, count in molecules.TRIALS.items()} == {
        name: len(budgets) for name, budgets in molecules.BUDGETS.items()
    }


def test_cells_come_batch_after_batch_so_that_a_stopped_run_has_whole_ones():
    if not extra_is_there():
        pytest.skip("the extra molecules is not installed")
    batches = [cell.extra_dict["batch"] for cell in molecules.cells(Options())]
    assert batches == sorted(batches)
    assert set(batches) == set(range(molecules.BATCHES))
    assert len(batches) == molecules.BATCHES * len(molecules.pairs())


def test_finished_cells_stay_current_as_the_list_of_cells_grows(tmp_path):
    """The list in a copy of the sources gets more batches, estimators and properties; then what measures is edited."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=lambda _, names: {n for n in names if _no_source(n)})
    names, before = molecules.cell(Options(), "source", "greedy", 0).names(), Sources(tmp_path)
    listed = tmp_path / "real_models/experiments/molecules.py"
    text = listed.read_text()
    for old, new in (
        ("BATCHES = 1", "BATCHES = 16"),
        ("SIZES = (ATOMS,)", "SIZES = (ATOMS, 17)"),
        ('"controls": (96, 384)}', '"controls": (96, 384, 1536)}'),
        ("for name in DIAL)", 'for name in (*DIAL, "adaptive"))'),
        ("ladder(**SOLVE)", 'ladder(16, "midpoint")'),
    ):
        assert old in text
        text = text.replace(old, new)
    listed.write_text(text)
    kept = before.closure(names).digest
    assert Sources(tmp_path).closure(names).digest == kept
    measures = tmp_path / "real_models/molecules/ranges.py"
    assert "PRIORS = (0.0," in measures.read_text()
    measures.write_text(measures.read_text().replace("PRIORS = (0.0,", "PRIORS = (0.5, 0.0,"))
    assert Sources(tmp_path).closure(names).digest != kept


def _no_source(name):
    return "." in name and not name.endswith(".py")


def test_what_measures_does_not_know_the_list():
    closure = Sources().closure(molecules.cell(Options(), "guidance", "end_to_end", 3).names())
    assert "real_models.molecules.measuring" in closure.modules
    assert "real_models.experiments.molecules" not in closure.modules


def test_work_is_counted_by_hand():
    cell = molecules.cell(Options(), "controls", "greedy", 0)
    assert molecules.evaluations(cell) == 6 * (4 * 2 * (10 * 96 + 2 * 384) + 16 * 480)  # by two optimisers


def test_a_plan_says_how_long_cells_and_runs_take(monkeypatch):
    monkeypatch.setattr(molecules, "seconds", lambda one: {96: 0.001, 384: 0.002})
    monkeypatch.setattr(molecules, "pairs", lambda: [("source", "unguided"), ("controls", "greedy")])
    first, *runs = molecules.plan()
    assert first == ("controls, greedy: 129024 evaluations and products, 1.00 ms at 96, 2.00 ms at 384, 4 core-minutes")
    assert runs[1] == "64 molecules of each property: BATCHES = 4, 0.3 core-hours"


def test_the_wanted_values_lie_in_the_data():
    assert all(
        data.RANGES[name][0] <= low <= high <= data.RANGES[name][1] for name, (low, *_, high) in targets.DECILES.items()
    )


def test_a_missing_extra_ends_with_the_line_that_installs_it(monkeypatch, tmp_path):
    def missing():
        raise ImportError(chemistry.INSTALL)

    monkeypatch.setattr(chemistry, "require", missing)
    with pytest.raises(WorkersError, match=r'pip install -e "\.\[molecules\]"'):
        suite.make({"molecules": molecules}, Options(), tmp_path, Workers(jobs=1))


def test_data_that_other_sizes_need_are_missed_before_any_work(monkeypatch, tmp_path):
    def missing():
        raise ImportError(data.INSTALL)

    monkeypatch.setattr(molecules.judging, "required", lambda: None)
    monkeypatch.setattr(molecules, "SIZES", (18, 17))
    monkeypatch.setattr(data, "load", missing)
    with pytest.raises(WorkersError, match="QM9 is read from the package qm9pack"):
        suite.make({"molecules": molecules}, Options(), tmp_path, Workers(jobs=1))

"""What ``check`` says of a run's tables; the truth is how each was made, and what was done to it since."""

import shutil

import pytest

import reproduce
from analysis import results, sources
from tests.support.command import ONE
from tests.support.damage import damage


def test_check_tells_current_from_missing_and_stale(made, tmp_path, monkeypatch, capsys):
    assert reproduce.main(["check", *ONE, "--quick", "--out", str(made)]) == 0
    assert reproduce.main(["check", *ONE, "--quick", "--out", str(tmp_path / "none")]) == 1
    assert "not there" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(sources.Sources, "closure", lambda self, names: sources.Closure("0" * 16, (), ()))
    assert reproduce.main(["check", *ONE, "--quick", "--out", str(made)]) == 1
    assert "other code" in capsys.readouterr().out


def test_check_misses_an_experiments_own_table_that_no_figure_reads(tmp_path, capsys):
    asked = ["estimators", "--quick", "--out", str(tmp_path)]
    assert reproduce.main(["run", *asked, "--jobs", "1"]) == 0
    assert reproduce.main(["check", *asked]) == 0
    (tmp_path / "tables" / "estimators.parquet").unlink()
    assert reproduce.main(["check", *asked]) == 1
    assert "estimators: the table is not there" in capsys.readouterr().out


def test_check_names_a_damaged_table_that_no_figure_reads(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "copy")
    tables = tmp_path / "copy" / "tables"
    spare = shutil.copyfile(tables / "lookahead_surface.parquet", tables / "lookahead_surface_spare.parquet")
    assert reproduce.main(["check", *ONE, "--quick", "--out", str(tmp_path / "copy")]) == 0
    damage(spare, "empty")
    assert reproduce.main(["check", *ONE, "--quick", "--out", str(tmp_path / "copy")]) == 1
    assert "lookahead_surface_spare: the table " in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["empty", "folder", "another number"])
def test_check_and_draw_name_a_table_that_is_not_as_it_was_written(made, tmp_path, kind, capsys):
    shutil.copytree(made, tmp_path / "copy")
    table = tmp_path / "copy" / "tables" / "lookahead_surface_best.parquet"
    damage(table, kind)
    assert reproduce.main(["check", *ONE, "--quick", "--out", str(tmp_path / "copy")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("lookahead_surface_best: the table ")
    assert "remove it and run again 1 of 3 tables" in said
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(tmp_path / "copy")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {table}")


def test_a_table_of_other_code_that_cannot_be_drawn_is_one_line(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "copy")
    table = tmp_path / "copy" / "tables" / "lookahead_surface_best.parquet"
    frame, about = results.read_with_provenance(table)
    results.write_table(frame.rename(columns={frame.columns[0]: "before"}), table, about | {"code": "0" * 16})
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(tmp_path / "copy")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: lookahead_surface_best: the table was made by other code")
    assert "run it again" in line


def test_the_tables_of_an_audit_are_made_by_the_audit(tmp_path, capsys):
    for verb in ("check", "draw"):
        assert reproduce.main([verb, "audit_error", "--out", str(tmp_path)]) == 1
        said = " ".join(capsys.readouterr()).replace("\n", " ")
        assert "`python reproduce.py audit MODULE:FACTORY` makes" in said


@pytest.mark.parametrize(
    ("asked", "said", "flags"),
    [
        ([], "quick True, not False", "{out}"),
        (["--quick", "--seed", "3"], "seed 0, not 3", "--quick {out} --seed=3"),
        (["--quick", "--dtype", "float32"], "dtype float64, not float32", "--quick {out} --dtype=float32"),
        (["--quick", "--device", "cuda:0"], "device cpu, not gpu", "--quick {out} --device=cuda:0"),
    ],
)
def test_check_tells_what_was_asked_from_what_is_there(made, asked, said, flags, capsys):
    making = f"python reproduce.py run lookahead_surface {flags.format(out=f'--out {made}')}"
    assert reproduce.main(["check", *ONE, *asked, "--out", str(made)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert f"lookahead_surface: the table was made with {said}" in text
    assert "3 of 3 tables" in text
    assert f"`{making}` makes them" in text

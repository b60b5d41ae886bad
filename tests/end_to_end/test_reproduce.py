"""The command line from end to end; the truth is bytes on disk, exit codes, and what is printed."""

import json
import os
import shutil
from pathlib import Path

import pytest

import reproduce
from analysis import results
from figures import convergence
from tests.support.command import FAST, ONE, command, hashes


def test_a_figure_comes_with_its_tables_caption_and_manifest(made):
    assert {p.name for p in made.iterdir()} == {
        "cells",
        "figures",
        "tables",
        "manifest.json",
        "numbers.tex",
        "report.html",
    }
    assert {p.name for p in (made / "figures").iterdir()} == {f"lookahead_surface.{k}" for k in ("png", "txt")}
    assert {"lookahead_surface.parquet", "lookahead_surface.csv", "lookahead_surface_best.parquet"} <= {
        p.name for p in (made / "tables").iterdir()
    }
    caption = (made / "figures" / "lookahead_surface.txt").read_text()
    assert caption.startswith("Quick run: At a fixed budget")
    assert "A quick run" in (made / "report.html").read_text()
    manifest = results.json.loads((made / "manifest.json").read_text())
    assert manifest["tables"]["lookahead_surface_best"]["options"]["quick"] is True
    assert 0 < manifest["core_seconds"]["lookahead_surface"] < 600
    assert "figures/lookahead_surface.png" in manifest["files"]


def test_a_figure_without_tables_is_answered_with_the_command_that_makes_them(tmp_path, capsys):
    assert reproduce.main(["draw", *ONE, "--quick", "--out", str(tmp_path / "a b")]) == 1
    making = f"python reproduce.py run lookahead_surface --quick --out '{tmp_path / 'a b'}'"
    assert f"is not there; `{making}` makes it" in capsys.readouterr().err


def test_files_of_the_run_that_were_cut_off_end_in_one_line(made, tmp_path, capsys):
    cut = Path(shutil.copytree(made, tmp_path / "cut"))
    manifest = (made / "manifest.json").read_text()
    (cut / "manifest.json").write_text(manifest[:100])
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(cut)]) == 0
    assert json.loads((cut / "manifest.json").read_text())["files"]
    (cut / "claims.json").write_text('[{"id"')
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(cut)]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "claims.json: the file cannot be read" in said[0]
    assert said[0].endswith("remove it and run again")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    reproduce.main(["run", *FAST, "--out", str(tmp_path / "same")])
    reproduce.main(["compute", *FAST, "--seed", "1", "--out", str(tmp_path / "other")])
    assert hashes(tmp_path / "same" / "tables") == hashes(made / "tables")
    assert hashes(tmp_path / "same" / "figures") == hashes(made / "figures")
    assert hashes(tmp_path / "other" / "tables") != hashes(made / "tables")


def test_drawing_again_computes_nothing_and_changes_nothing(made):
    before = hashes(made / "figures")
    cells = {p: p.stat().st_mtime_ns for p in (made / "cells").iterdir()}
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(made)]) == 0
    assert hashes(made / "figures") == before
    assert {p: p.stat().st_mtime_ns for p in (made / "cells").iterdir()} == cells


def test_each_table_keeps_its_own_provenance(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    out = tmp_path / "copy"
    other = ["compute", "gradient_field", "--quick", "--seed", "5", "--jobs", "1", "--out", str(out)]
    assert reproduce.main(other) == 0
    (out / "tables" / ".x.parquet.host-1.0123abcd.tmp").write_text("")
    reproduce.suite.write_manifest(out, 0.0, {})
    manifest = results.json.loads((out / "manifest.json").read_text())
    assert manifest["tables"]["gradient_field"]["seed"] == 5
    assert manifest["tables"]["lookahead_surface"]["seed"] == 0
    assert not any(".tmp" in name for name in manifest["files"])


def test_list_names_every_figure(capsys):
    assert reproduce.main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("gradient_field", "greedy_error", "convergence", "lookahead_surface", "cost_accuracy", "digits"):
        assert name in text
    assert f"  convergence: {convergence.QUESTION}\n" in text  # a pipe has no width to wrap lines at


@pytest.mark.parametrize(
    ("arguments", "selected"),
    [
        (["run", "convergence", "digits", "convergence"], {"convergence", "digits"}),
        (["check", "bounds"], {"bound_tightness"}),
        (["draw", "regimes_images", "outcome_windows"], {"regimes_images", "outcome_vs_compute"}),
        (["audit", "m:f"], {"audit_error", "audit_lookahead"}),
    ],
)
def test_a_name_is_a_figure_or_an_experiment_with_all_its_figures(arguments, selected):
    assert set(reproduce.selected(reproduce.parse(arguments))) == selected


@pytest.mark.parametrize("verb", [[], ["run"], ["compute"], ["draw"], ["check"]])
def test_without_a_name_the_theory_is_made_and_nothing_else(verb):
    selected = reproduce.selected(reproduce.parse(verb))
    assert {"greedy_error", "claims", "bound_tightness"} <= set(selected)
    assert set(selected.values()) == {"theory"}


def test_every_figure_but_those_of_a_machine_or_a_user_belongs_to_a_suite():
    everything = reproduce.selected(reproduce.parse(["list"]))
    in_suites = reproduce.selected(reproduce.parse(["check", "all"]))
    assert set(everything) - set(in_suites) == {"bench", "gpu_bench", "gpu_cost", "audit_error", "audit_lookahead"}
    assert in_suites["real_flow"] == "images"  # which also shows a table of the theory
    suites = "theory", "guidance", "images", "molecules"
    parts = [reproduce.selected(reproduce.parse(["check", name])) for name in suites]
    assert {name: kind for part in parts for name, kind in part.items()} == in_suites


def test_a_quick_run_has_a_folder_of_its_own():
    folders = [
        str(reproduce.parse(a).out) for a in ([], ["--quick"], ["draw", "--published"], ["--out", "x", "--quick"])
    ]
    assert folders == ["results", "results/quick", "results/published", "x"]


def test_what_a_run_says_at_its_end_is_a_line_per_figure(made, capsys):
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(made)]) == 0
    first, *rest = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("lookahead_surface: The best horizon stops short")
    assert len(rest) <= 3


def test_options_and_names_come_in_any_order():
    options = reproduce.parse(["run", "digits", "--quick", "claims", "--seed", "3", "memory"])
    assert (options.names, options.quick, options.seed) == (["digits", "claims", "memory"], True, 3)
    assert reproduce.parse(["audit", "--quick", "m:f", "--times", "0.5", "0.6"]).times == [0.5, 0.6]
    assert reproduce.parse(["digits", "--quick"]).verb == "run"


def test_help_names_the_verbs_and_each_verb_its_options(capsys):
    for arguments, said in ([], "MODULE:FACTORY"), (["audit"], "--samples"), (["check"], "--out"):
        with pytest.raises(SystemExit) as stopped:
            reproduce.main([*arguments, "--help"])
        assert stopped.value.code == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nothing"], "NAME: nothing unknown (verbs come first); the suites are"),
        (["--quick", "check"], "NAME: check unknown (verbs come first)"),
        (["run", "--only", "digits"], "unrecognized arguments: --only"),
        (["--scheduler", "tcp://nowhere"], "--backend dask"),
        (["--backend", "threads"], "invalid choice"),
        (["dance"], "dance unknown"),
        (["run", "regmes"], "NAME: regmes unknown (verbs come first); did you mean 'regimes'?; the suites are"),
        (["chekc"], "NAME: chekc unknown (verbs come first); did you mean 'check'?; the suites are"),
        (["--jobs", "0"], "--jobs: must not be 0"),
        (["--jobs", "two"], "--jobs: invalid"),
        (["--seed", "-1"], "--seed: must be at least 0"),
        (["--seed", str(2**63)], "below 2^63"),
        (["run", "--times", "0.5"], "unrecognized arguments: --times"),
        (["--error", "0.5"], "unrecognized arguments: --error"),
        (["draw", "--seed", "1"], "unrecognized arguments: --seed"),
        (["check", "--jobs", "2"], "unrecognized arguments: --jobs"),
        (["run", "--published"], "unrecognized arguments: --published"),
        (["list", "--out", "x"], "unrecognized arguments: --out"),
        (["audit", "m:f", "--dtype", "float32"], "unrecognized arguments: --dtype"),
        (["audit", "m:f", "digits"], "unrecognized arguments: digits"),
        (["audit", "--quick"], "required: factory"),
        (["--out", ""], "--out: must not be empty"),
        (["draw", "--out", " "], "--out: must not be empty"),
        (["check", "--out="], "--out: must not be empty"),
        (["--plugin", ""], "--plugin: must not be empty"),
        (["--backend", "dask", "--scheduler", ""], "--scheduler: must not be empty"),
        (["--device", ""], "--device: must not be empty"),
        (["audit", ""], "factory: must not be empty"),
        (["audit", "m:f", "--out", ""], "--out: must not be empty"),
        (["--backend", "dask", "--scheduler", "tcp://a:1", "--jobs", "2"], "takes no --jobs"),
    ],
)
def test_bad_options_are_refused_by_name(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert line.endswith(f" {arguments[0] if arguments[0] in reproduce.VERBS else 'run'} --help")


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="--out: cannot write"):
        reproduce.main(["run", *FAST, "--out", str(tmp_path / "file" / "below")])
    assert (tmp_path / "file").read_text() == ""


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--device: cuda:99"):
        reproduce.main(["run", *FAST, "--device", "cuda:99", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit, match="--device: gpu is not available; it must be cpu, or cuda, xpu or mps"):
        reproduce.main(["run", *FAST, "--device", "gpu", "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_a_command_that_fails_makes_no_folder(tmp_path, capsys):
    out = tmp_path / "new"
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(out)]) == 1
    assert "python reproduce.py run" in capsys.readouterr().err
    assert reproduce.main(["audit", "nowhere:factory", "--quick", "--jobs", "1", "--out", str(out)]) == 1
    scheduler = ["--backend", "dask", "--scheduler", "nonsense"]
    assert reproduce.main(["run", *FAST[:2], *scheduler, "--out", str(out)]) == 1
    assert "'nonsense' is no address of a Dask scheduler" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["v[red]2", "run [/final]", "größe 漢"])
def test_an_output_folder_is_named_as_it_is(made, tmp_path, name, capsys):
    shutil.copytree(made, tmp_path / name)
    assert reproduce.main(["draw", *ONE, "--jobs", "1", "--out", str(tmp_path / name)]) == 0
    assert f"/{name}/" in "".join(capsys.readouterr().out.split("\n"))


def test_what_a_terminal_cannot_show_stops_nothing(made, tmp_path):
    shutil.copytree(made, tmp_path / "größe 漢")
    done = command("draw", *ONE, "--jobs", 1, "--out", tmp_path / "größe 漢", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert b"gr\xf6\xdfe \\u6f22" in done.stdout.replace(b"\n", b"")


def test_a_reader_that_has_gone_stops_nothing(made, tmp_path):
    """As ``| head -1`` goes: the pipe is closed before the first line."""
    out = Path(shutil.copytree(made, tmp_path / "copy"))
    (out / "manifest.json").unlink()
    reading, writing = os.pipe()
    os.close(reading)
    done = command("run", *FAST, "--out", out, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "figures/lookahead_surface.png" in json.loads((out / "manifest.json").read_text())["files"]


def test_the_users_matplotlib_changes_no_byte(made, tmp_path):
    """Neither a matplotlibrc nor a notebook's backend, of a package that is not here."""
    (tmp_path / "matplotlibrc").write_text("axes.grid: True\nsavefig.bbox: tight\ntext.usetex: True\n")
    shutil.copytree(made, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "figures")
    done = command(
        *("draw", *ONE, "--jobs", 1, "--out", tmp_path / "copy"),
        cwd=tmp_path,
        MPLBACKEND="module://no_such_package.backend",
    )
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "copy" / "figures") == hashes(made / "figures")

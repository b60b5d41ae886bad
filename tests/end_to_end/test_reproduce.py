import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import reproduce
from analysis import results
from analysis.provenance import ROOT

FAST = ["--quick", "--only", "lookahead_surface", "--jobs", "1"]


def hashes(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.glob("*")) if "_timings" not in p.name]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    assert reproduce.main([*FAST, "--out", str(out)]) == 0
    return out


def test_a_figure_comes_with_its_tables_caption_and_manifest(made):
    assert {p.name for p in (made / "figures").iterdir()} == {f"lookahead_surface.{k}" for k in ("pdf", "png", "txt")}
    assert {"lookahead_surface.parquet", "lookahead_surface.csv", "lookahead_surface_best.parquet"} <= {
        p.name for p in (made / "tables").iterdir()
    }
    caption = (made / "figures" / "lookahead_surface.txt").read_text()
    assert caption.startswith("At a fixed budget")
    manifest = results.json.loads((made / "manifest.json").read_text())
    assert manifest["options"]["quick"] is True
    assert "figures/lookahead_surface.pdf" in manifest["files"]


def test_fonts_are_embedded_as_truetype(made):
    pdf = (made / "figures" / "lookahead_surface.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    reproduce.main([*FAST, "--out", str(tmp_path / "same")])
    reproduce.main(["run", *FAST, "--seed", "1", "--out", str(tmp_path / "other")])
    assert hashes(tmp_path / "same" / "tables") == hashes(made / "tables")
    assert hashes(tmp_path / "same" / "figures") == hashes(made / "figures")
    assert hashes(tmp_path / "other" / "tables") != hashes(made / "tables")


def test_drawing_again_computes_nothing_and_changes_nothing(made):
    before = hashes(made / "figures")
    cells = {p: p.stat().st_mtime_ns for p in (made / "cells").iterdir()}
    assert reproduce.main(["draw", *FAST, "--out", str(made)]) == 0
    assert hashes(made / "figures") == before
    assert {p: p.stat().st_mtime_ns for p in (made / "cells").iterdir()} == cells


def test_check_tells_current_from_missing_and_stale(made, tmp_path, monkeypatch, capsys):
    assert reproduce.main(["check", *FAST, "--out", str(made)]) == 0
    assert reproduce.main(["check", *FAST, "--out", str(tmp_path)]) == 1
    assert "not there" in capsys.readouterr().out
    monkeypatch.setattr(reproduce, "code_hash", lambda: "0" * 16)
    assert reproduce.main(["check", *FAST, "--out", str(made)]) == 1
    assert "other code" in capsys.readouterr().out


def test_list_names_every_figure(capsys):
    assert reproduce.main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("gradient_field", "greedy_error", "convergence", "lookahead_surface", "cost_accuracy", "digits"):
        assert name in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nothing"], "the figures are"),
        (["--scheduler", "tcp://nowhere"], "--backend dask"),
        (["--backend", "threads"], "invalid choice"),
        (["dance"], "invalid choice"),
    ],
)
def test_bad_options_are_refused_by_name(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="--out: cannot write"):
        reproduce.main([*FAST, "--out", str(tmp_path / "file" / "below")])
    assert (tmp_path / "file").read_text() == ""


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--device: cuda:99"):
        reproduce.main([*FAST, "--device", "cuda:99", "--out", str(tmp_path)])


def test_a_run_that_is_killed_resumes_to_the_same_bytes(tmp_path):
    command = [sys.executable, "reproduce.py", "run", "--quick", "--only", "greedy_error", "--jobs", "1", "--out"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    for _ in range(600):
        if len(list(killed.glob("cells/*.parquet"))) >= 2:
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {p.name: p.stat().st_mtime_ns for p in killed.glob("cells/*.parquet")}
    assert 2 <= len(finished) < 6
    assert not (killed / "tables").exists()
    for out in (killed, whole):
        subprocess.run([*command, str(out)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert hashes(killed / "tables") == hashes(whole / "tables")
    assert all((killed / "cells" / name).stat().st_mtime_ns == stamp for name, stamp in finished.items())

"""Tables and provenance on disk; the truth is what was written, and git's own answers."""

import os
import shutil
import subprocess
import sys
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis import provenance, results
from tests.support.damage import KINDS, damage


def test_a_table_comes_back_with_its_provenance(tmp_path):
    frame = pd.DataFrame({"problem": ["a", "b"], "value": [0.1, float("nan")]})
    results.write_table(frame, tmp_path / "deep" / "t.parquet", {"seed": 3})
    pd.testing.assert_frame_equal(results.read_table(tmp_path / "deep" / "t.parquet"), frame)
    assert results.read_provenance(tmp_path / "deep" / "t.parquet") == {"seed": 3}
    assert (tmp_path / "deep" / "t.csv").read_text().startswith("problem,value")


def test_the_same_table_has_the_same_bytes(tmp_path):
    frame = pd.DataFrame({"value": [0.1, 0.2]})
    for name in "ab":
        results.write_table(frame, tmp_path / f"{name}.parquet", {"seed": 3})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="middle"):
        results.write_whole(target, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_a_missing_table_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"reproduce\.py run"):
        results.read_table(tmp_path / "none.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_table_is_named_with_the_way_out(tmp_path, kind):
    path = tmp_path / "t.parquet"
    results.write_table(pd.DataFrame({"a": [0.1, 0.2], "b": [1.0, 2.0]}), path, {"seed": 3})
    damage(path, kind)
    with pytest.raises(results.TableError, match=r"t\.parquet: the table .* remove it and run again") as caught:
        results.read_table(path)
    assert "<Buffer>" not in str(caught.value)


def test_values_in_another_order_are_another_table(tmp_path):
    path = tmp_path / "t.parquet"
    results.write_table(pd.DataFrame({"a": [0.1, 0.2], "b": [1.0, 2.0]}), path, {"seed": 3})
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "a", table["a"].take([1, 0])), path)
    with pytest.raises(results.TableError, match=r"t\.parquet: the table"):
        results.read_table(path)


def test_no_flipped_bit_changes_a_table_in_silence(tmp_path):
    path, frame = tmp_path / "t.parquet", pd.DataFrame({"name": ["a", None], "value": [0.1, float("nan")]})
    results.write_table(frame, path, {"seed": 3})
    content, noticed = path.read_bytes(), 0
    for i in range(0, len(content), 7):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :])
        try:
            pd.testing.assert_frame_equal(results.read_table(path), frame)
        except results.TableError:
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize("path", ["file/t.parquet", "folder"])
def test_a_file_that_cannot_be_written_is_named(tmp_path, path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(results.WriteError, match=f"cannot write .*{path}"):
        results.write_whole(tmp_path / path, lambda file: file.write(b"x"))
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}


def test_temporary_files_of_runs_that_are_no_more_are_removed(tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    host = results._host()
    names = {
        "dead": f".t.parquet.{host}-{finished.pid}.0123abcd.tmp",
        "alive": f".t.parquet.{host}-{os.getpid()}.0123abcd.tmp",
        "elsewhere": f".t.parquet.other{host}-{finished.pid}.0123abcd.tmp",
        "old": f".t.parquet.other{host}-1.0123abcd.tmp",
        "not ours": ".something.tmp",
    }
    for name in names.values():
        (tmp_path / name).write_text("")
    past = time.time() - 2 * results.ABANDONED
    os.utime(tmp_path / names["old"], (past, past))
    results.remove_abandoned(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {names[key] for key in ("alive", "elsewhere", "not ours")}


def test_provenance_says_what_made_a_table():
    found = provenance.provenance("cpu", 5)
    assert found["seed"] == 5
    assert found["versions"]["torch"].startswith("2.")


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    (tmp_path / "thesis.tex").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "thesis")
    return tmp_path


def test_the_commit_is_that_of_the_packages_own_repository(repository, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", repository)
    (repository / "analysis").mkdir()
    (repository / "analysis" / "provenance.py").write_text("")
    assert provenance.commit() == (None, None)  # unpacked or installed at the top of another repository
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "the package")
    assert provenance.commit() == (git(repository, "rev-parse", "HEAD"), False)
    (repository / "new.py").write_text("")
    assert provenance.commit()[1] is True


def track(repository, folder):
    """Let a repository track a copy of the package in one of its folders."""
    (folder / "analysis").mkdir(parents=True)
    (folder / "analysis" / "provenance.py").write_text("")
    git(repository, "add", "--force", ".")
    git(repository, "commit", "-qm", "a copy")


@pytest.mark.parametrize("place", ["vendored", ".venv/lib/site-packages"])
@pytest.mark.parametrize("tracked", [False, True])
def test_a_copy_inside_another_repository_has_no_commit(repository, monkeypatch, place, tracked):
    (repository / place).mkdir(parents=True)
    if tracked:
        track(repository, repository / place)
    monkeypatch.setattr(provenance, "ROOT", repository / place)
    assert provenance.commit() == (None, None)


@pytest.mark.parametrize("tracked", [False, True])
def test_a_hook_of_another_repository_does_not_lend_its_commit(repository, monkeypatch, tmp_path_factory, tracked):
    if tracked:
        track(repository, repository)
    monkeypatch.setattr(provenance, "ROOT", tmp_path_factory.mktemp("unpacked"))
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(provenance.ROOT))
    assert provenance.commit() == (None, None)

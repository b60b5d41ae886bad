import pandas as pd
import pytest

from analysis import provenance, results


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


def test_provenance_says_what_made_a_table():
    found = provenance.provenance("cpu", 5)
    assert found["seed"] == 5
    assert found["versions"]["torch"].startswith("2.")
    assert len(found["code"]) == 16


def test_the_code_hash_follows_the_code(tmp_path, monkeypatch):
    room = tmp_path / "analysis"
    room.mkdir()
    (room / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    before = provenance.code_hash.__wrapped__()
    assert before == provenance.code_hash.__wrapped__()
    (room / "a.py").write_text("x = 2\n")
    assert before != provenance.code_hash.__wrapped__()

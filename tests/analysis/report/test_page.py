"""The report's page, read back by an HTML parser of the standard library; the truth is a small run written by hand."""

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from analysis import results
from analysis.report import Entry, page, write_page
from tests.support.small_run import ENTRIES, GLOSSARY, small_run


class Read(HTMLParser):
    """What a page holds: links, identifiers, addresses of pictures, rows of each table, and its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.pictures, self.tables, self.words = [], [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.ids += [known["id"]] if "id" in known else []
        if tag == "a":
            self.links.append(known["href"])
        if tag == "img":
            self.pictures.append(known)
        if tag == "table":
            self.table = self.tables.setdefault(known["id"], [])
        if tag == "tr":
            self.table.append([])
        if tag in ("td", "th"):
            self.table[-1].append("")

    def handle_data(self, data):
        self.words.append(data)
        if self.lasttag in ("td", "button") and self.tables and data.strip():
            self.table[-1][-1] += data


@pytest.fixture
def out(tmp_path):
    return small_run(tmp_path)


def test_every_link_leads_to_a_place_on_the_page_and_no_place_is_there_twice(out):
    read = Read(page(out, ENTRIES, GLOSSARY))
    assert len(read.ids) == len(set(read.ids))
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)
    assert {"#figure-error", "#table-error", "#table-error_facts", "#ledger"} <= set(read.links)


def test_pictures_are_inside_the_page_and_have_a_text_instead(out):
    (first, _) = Read(page(out, ENTRIES, GLOSSARY)).pictures
    kind, _, data = first["src"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (out / "figures" / "error.png").read_bytes()
    assert "Greedy errs by 2 <of 3>." in first["alt"]


def test_a_table_is_shown_as_it_is(out):
    rows = Read(page(out, ENTRIES, GLOSSARY)).tables["rows-error"]
    assert rows == [
        ["method", "error", "count"],
        ["greedy", "0.1235", "3"],
        ["a & <b>", "−2 × 10¹⁰", "10"],
        ["none", "", "0"],
    ]


def test_a_number_is_its_own_sort_key_and_is_not_written_twice(out):
    text = page(out, ENTRIES, GLOSSARY)
    assert "<td>0.1235</td>" in text
    assert '<td data-key="−2e+10">−2 × 10¹⁰</td>' in text
    assert 'replaceAll("−", "-")' in text


def test_a_long_table_is_cut_and_says_so(out):
    results.write_table(pd.DataFrame({"i": range(1234)}), out / "tables" / "error.parquet", {})
    read = Read(page(out, ENTRIES, GLOSSARY))
    assert len(read.tables["rows-error"]) == 201
    assert "of 1234 rows" in "".join(read.words)


def test_ledger_glossary_and_provenance_are_there(out):
    read = Read(page(out, ENTRIES, GLOSSARY))
    assert read.tables["ledger-rows"][1] == [
        "P1",
        "errors fall",
        "as printed",
        "holds",
        "2",
        "1.9, 2.1",
        "2",
        "a paper",
    ]
    assert read.tables["glossary-rows"][1][:3] == ["methods", "greedy", "greedy"]
    assert ["error", "abc", "False", "cpu x", "7", "torch 2", "True"] in read.tables["provenance-rows"]


def test_symbols_are_set_in_statements_of_ledger_and_tables_and_nowhere_else(out):
    said = {"statement": "x_t <= zeta^2 <b>", "solver": "euler_zeta", "variable": "zeta"}
    results.write_table(pd.DataFrame([said]), out / "tables" / "error.parquet", {})
    (out / "claims.json").write_text(json.dumps([{"id": "P1", "reading": "h = zeta_t"}]))
    text = page(out, ENTRIES, GLOSSARY)
    assert '<td data-key="x_t &lt;= zeta^2 &lt;b&gt;">x<sub>t</sub> ≤ ζ<sup>2</sup> &lt;b&gt;</td>' in text
    assert "<td>euler_zeta</td><td>zeta</td>" in text
    assert ">h = ζ<sub>t</sub></td>" in text


def test_a_run_without_claims_has_no_ledger(out):
    (out / "claims.json").unlink()
    assert "ledger-rows" not in Read(page(out, ENTRIES, GLOSSARY)).tables


def test_a_quick_run_says_so_and_a_full_one_does_not(out):
    assert "A quick run" in page(out, [ENTRIES[0], replace(ENTRIES[1], quick=True)], GLOSSARY)
    assert "quick run" not in page(out, ENTRIES, GLOSSARY).lower()


def test_nothing_on_the_page_comes_from_elsewhere(out):
    text = page(out, ENTRIES, GLOSSARY)
    assert "http://" not in text
    assert "https://" not in text


def test_the_page_is_written_whole_and_again_the_same(out):
    first = write_page(out, ENTRIES, GLOSSARY).read_bytes()
    assert write_page(out, ENTRIES, GLOSSARY).read_bytes() == first
    assert first.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("missing", ["tables/error.parquet", "figures/error.png"])
def test_a_missing_file_is_named(out, missing):
    (out / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing.partition("/")[2]):
        page(out, ENTRIES, GLOSSARY)


def test_claims_may_lack_columns(out):
    (out / "claims.json").write_text(json.dumps([{"id": "P1", "verdict": "holds"}]))
    assert Read(page(out, ENTRIES, GLOSSARY)).tables["ledger-rows"] == [["id", "verdict"], ["P1", "holds"]]


def test_an_entry_without_tables_has_none():
    assert Entry("a", "theory", "?", ".", ".").tables == ()

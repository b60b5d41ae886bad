"""Density functional theory as a judge of molecules (extra ``dft``): a table of them that grows, and their errors.

How a molecule is computed is in ``real_models.molecules.kohn_sham``. It takes minutes:

    python -m real_models.molecules.dft results/tables/molecules.parquet --each 4
    python -m real_models.molecules.dft --labels 3

The first judges the molecules of four targets of every property by the named estimators at a setting's largest budget,
the second molecules of the data, whose labels are known. The table, ``weights/dft.json`` or another file, is written
after every molecule, and the same command goes on with those that are not in it. A molecule without a value is a row
with the reason. What stands in ``weights/dft.json`` is a judge of the experiment ``molecules``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis import checks, provenance, results
from analysis.tables import only
from real_models import options
from real_models.molecules import WEIGHTS, data, judging
from real_models.molecules.kohn_sham import BASIS, GRID, METHOD, RESPONSE, properties, require
from real_models.molecules.network import event
from real_models.molecules.targets import ATOMS
from real_models.molecules.xtb import PROPERTIES, JudgeError

TABLE = WEIGHTS / "dft.json"
METRIC = "dft_error"
ESTIMATORS = ("unguided", "greedy", "end_to_end")
KEY = ["setting", "estimator", "budget", "order"]
PLACE = [*KEY, "property", "wanted"]


def chosen(table: pd.DataFrame, setting: str, estimators: Sequence[str], each: int) -> pd.DataFrame:
    """Choose molecules of a table of the experiment ``molecules``: ``each`` targets of every property.

    Estimators are compared in pairs, and what GFN2-xTB has no value for, such as an odd number of electrons, would have
    none here: it is left out, and of a property's targets those with molecules of most estimators come first.

    Returns
    -------
    DataFrame
        A row per target and estimator, each at its largest budget in that setting; what takes longest comes last.

    Raises
    ------
    ValueError
        For a table without molecules of that setting and these estimators.
    """
    there = {"molecule", "setting", "estimator"} <= {*table}
    made = table[(table["setting"] == setting) & table["estimator"].isin(estimators)] if there else table.iloc[:0]
    made = made[made["budget"] == made.groupby("estimator")["budget"].transform("max")] if there else made
    known = only(made, metric="xtb_error").dropna(subset=["value"])[KEY] if there else made
    if known.empty:
        raise ValueError(f"the table has no molecules of setting {setting!r} by {', '.join(estimators)}, judged by xTB")
    part = only(made, metric="error").merge(known, on=KEY)
    part["many"] = part.groupby("order")["order"].transform("size")
    part["slow"] = part["property"].isin(RESPONSE)
    targets = (
        part[["property", "order", "many"]].drop_duplicates().sort_values(["many", "order"], ascending=[False, True])
    )
    part = part[part["order"].isin(targets.groupby("property").head(each)["order"])]
    return part.sort_values(["slow", "order", "estimator"], ignore_index=True)[[*PLACE, "molecule"]]


def labelled(count: int, n: int = ATOMS) -> pd.DataFrame:
    """Return the first ``count`` molecules of n atoms in the test part, with their labels (``label_alpha``, ...)."""
    test = data.part("test")
    rows = test.of_size(n)[:count]
    texts = judging.text(event(*test.stacked(rows)))
    place = {"setting": "data", "estimator": "data", "budget": 0, "property": "", "wanted": math.nan}
    frame = pd.DataFrame({"order": rows, "molecule": texts}).assign(**place)
    labels = {f"label_{name}": test.labels(rows, name).numpy().astype(float) for name in PROPERTIES}
    return frame.assign(**labels)


def read(path: Path = TABLE) -> list[dict[str, Any]]:
    """Return the rows of judged molecules in a file, none where there is no file.

    Returns
    -------
    list
        A dictionary per molecule; missing values are None.

    Raises
    ------
    ValueError
        For a file that is no such table.
    """
    try:
        return list(results.read_json(path)["molecules"]) if path.exists() else []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no table of judged molecules; move it away and run again") from error


def judged(wanted: pd.DataFrame, path: Path) -> Iterator[dict[str, Any]]:
    """Judge the molecules of a table that are not in the file at ``path``, and write that after each of them.

    Yields
    ------
    dict
        The row of each: what ``wanted`` says of it, its status, and ``xtb.PROPERTIES``, None without a value. A
        polarizability, which takes most of the time, is computed where it is the target, and of molecules of the data.
    """
    rows = read(path)
    ready = {(row["molecule"], *(row[name] for name in KEY)) for row in rows}
    for row in wanted.replace({math.nan: None}).to_dict("records"):
        if (row["molecule"], *(row[name] for name in KEY)) in ready:
            continue
        names = needed(row["property"])
        same = [one for one in rows if one["molecule"] == row["molecule"] and _has(one, names)]
        made = {name: same[0][name] for name in ("status", *PROPERTIES)} if same else _values(row["molecule"], names)
        rows.append({str(name): value for name, value in row.items()} | made)
        about = {"method": METHOD, "basis": BASIS, "grid": GRID, "versions": versions()}
        results.write_json(path, about | {"molecules": rows})
        yield rows[-1]


def errors(made: pd.DataFrame, path: Path = TABLE) -> pd.DataFrame:
    """Return the rows of those molecules that have been judged again, as absolute errors by this method.

    Parameters
    ----------
    made : rows of the experiment ``molecules``
    path : the file of judged molecules

    Returns
    -------
    DataFrame
        The rows with metric ``METRIC``; those of molecules without a value have NaN and the reason as their status.
    """
    known = {(row["molecule"], name): row for row in read(path) for name in PROPERTIES if _has(row, (name,))}
    rows = made[made["metric"] == "error"]
    place = [*zip(rows["molecule"], rows["property"], strict=True)]
    rows = rows[np.array([one in known for one in place], dtype=bool)]
    found = [(known[one][one[1]], known[one]["status"]) for one in place if one in known]
    values = pd.Series([value for value, _ in found], index=rows.index, dtype=float)
    return rows.assign(metric=METRIC, value=(values - rows["wanted"]).abs(), status=[status for _, status in found])


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide the values."""
    return provenance.versions(("pyscf", "numpy", "scipy"))


def needed(target: str) -> tuple[str, ...]:
    """Return the properties to compute where one is the target ("" for none, which needs all)."""
    return tuple(name for name in PROPERTIES if name not in RESPONSE or target in ("", name))


def _has(row: dict[str, Any], names: Sequence[str]) -> bool:
    """Return whether a judged row answers for these properties: by values, or by the reason for having none."""
    return row["status"] != "ok" or all(row[name] is not None for name in names)


def _values(written: str, names: Sequence[str]) -> dict[str, Any]:
    none = dict.fromkeys(PROPERTIES)
    try:
        return {"status": "ok"} | none | properties(*judging.read(written), names)
    except JudgeError as error:
        return {"status": str(error)} | none


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?", help="the table of the experiment molecules")
    parser.add_argument("--labels", type=int, help="judge so many molecules of the data instead")
    parser.add_argument("--out", type=Path, default=TABLE, help="the file that is written (default: weights/dft.json)")
    parser.add_argument(
        "--setting", default="source", help="source, late, guidance, guidance_stable or controls (default: source)"
    )
    parser.add_argument("--estimators", nargs="+", default=ESTIMATORS, help=f"(default: {' '.join(ESTIMATORS)})")
    parser.add_argument("--atoms", type=int, default=ATOMS, help="the number of atoms of those of the data")
    parser.add_argument("--each", type=int, default=4, help="targets of every property (default: 4)")
    asked = parser.parse_args(arguments)
    if (asked.table is None) == (asked.labels is None):
        parser.error("name a table of molecules, or --labels")
    return asked


@options.in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Judge molecules, and print each and the number of those without a value; ``SystemExit`` without pyscf."""
    asked = parse(arguments)
    torch.set_num_threads(1)
    require()
    if asked.labels is not None:
        wanted = labelled(checks.count("labels", asked.labels), asked.atoms)
    else:
        table = results.read_table(asked.table)
        wanted = chosen(table, asked.setting, asked.estimators, checks.count("each", asked.each))
    for row in judged(wanted, asked.out):
        values = ", ".join(f"{name} {row[name]:.5g}" for name in PROPERTIES if row[name] is not None)
        print(f"{row['estimator']}, target {row['order']}: {values or row['status']}")
    lost = sum(row["status"] != "ok" for row in read(asked.out))
    print(f"{len(wanted)} molecules, {lost} of those in {asked.out} without a value")


if __name__ == "__main__":
    main()

"""Ship the tables of a run with the project: ``python -m tests.tools.publish FOLDER NAME ...``.

Every table that a figure of the names (suites, figures or experiments) is drawn from is copied to
``figures/published``, with what its cells took, and so is the table of all rows of an experiment that takes long. From
that ``--restore`` writes the finished cells into a folder, where a run with more cells goes on from them. ``--gallery``
draws the pictures of README and gallery again, from all published tables.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import reproduce
from analysis import catalogue, figure_files, suite
from analysis.settings import Options

LONG = 1800  # seconds of one core
GALLERY = Path(reproduce.__file__).parent / "figures" / "gallery"


def publish(out: Path, names: list[str]) -> list[str]:
    """Copy the tables of figures from a run's folder; return their names.

    Raises
    ------
    SystemExit
        Where a table is of a quick run, or not as the sources of today make it.
    """
    options = reproduce.parse(["check", *names, "--out", str(out)])
    tables = reproduce.tables_of(reproduce.selected(options))
    tables += ["claims"] if "claims_ledger" in tables else []  # whose cases the documentation lists
    seconds = suite.core_seconds(out)
    shipped = {path.stem for path in (reproduce.PUBLISHED / "tables").glob("*.parquet")}
    makers = suite.makers(tables, catalogue.experiments())
    whole = {name for name in makers if name in shipped or seconds.get(name, 0) > LONG}  # with all their rows
    tables = sorted({*tables} | whole)
    full = {"quick": False, "dtype": "float64", "seed": 0}
    if problems := [said for name in tables if (said := suite.out_of_date(name, out, full))]:
        sys.exit("\n".join(problems))
    (reproduce.PUBLISHED / "tables").mkdir(parents=True, exist_ok=True)
    for name in tables:
        shutil.copyfile(out / "tables" / f"{name}.parquet", reproduce.PUBLISHED / "tables" / f"{name}.parquet")
    suite.write_manifest(reproduce.PUBLISHED, 0.0, seconds)
    return tables


def restore(out: Path, names: list[str]) -> int:
    """Write the cells of shipped tables into a run's folder; return how many."""
    known, tables = catalogue.experiments(), reproduce.PUBLISHED / "tables"
    seconds = suite.core_seconds(reproduce.PUBLISHED)
    if unknown := {*names} - {*known}:
        sys.exit(f"no experiments: {', '.join(sorted(unknown))}")
    return sum(suite.restore(n, known[n], Options(), tables, out / "cells", seconds.get(n, 0.0)) for n in names)


def gallery() -> None:
    """Draw every picture of the gallery again, with its caption, from the published tables."""
    for picture in sorted(GALLERY.glob("*.png")):
        figure_files.write(reproduce.PUBLISHED, f"figures.{picture.stem}")
        for kind in ("png", "txt"):
            shutil.copyfile(
                reproduce.PUBLISHED / "figures" / f"{picture.stem}.{kind}", GALLERY / f"{picture.stem}.{kind}"
            )
    shutil.rmtree(reproduce.PUBLISHED / "figures")
    for text in (reproduce.PUBLISHED / "tables").glob("*.tex"):
        text.unlink()


def main() -> None:
    """Publish what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a run")
    parser.add_argument("names", nargs="*", help="suites, figures or experiments")
    parser.add_argument("--gallery", action="store_true")
    parser.add_argument("--restore", action="store_true")
    options = parser.parse_args()
    if options.restore:
        print(f"{restore(options.out, options.names)} cells are restored")
    elif options.names:
        print(f"{len(publish(options.out, options.names))} tables are published")
    if options.gallery:
        gallery()


if __name__ == "__main__":
    main()

"""Lookahead gradients by this package and by others: every contender of ``toy_models.bench`` at every size."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.gradients import ESTIMATORS
from analysis.settings import Options, Variant
from analysis.tables import only
from toy_models.bench.contenders import (
    CONTENDERS,
    LARGE,
    LARGE_STEPS,
    PEERS,
    SINGLE_STEPS,
    SIZES,
    SLOW,
    SLOW_STEPS,
    STEPS,
    THREADS,
    T,
)

OWN = ("ours", "ours_cells", "floor")
EXACT = 1e-8  # contenders that differ by more compute another gradient
SERIAL = True
PACKAGES = PEERS
SPEC = {
    "quick": {"sizes": SIZES[:1], "steps": 8, "repetitions": 3},
    "full": {"sizes": SIZES, "steps": STEPS[-1], "repetitions": 5},
}


def cells(options: Options) -> list[Cell]:
    """Make one cell per size, workload and contender.

    Returns
    -------
    list
        The cells.

    Raises
    ------
    ImportError
        If a peer is missing; the message has the line that installs it.
    """
    require()
    spec = options.of(SPEC)
    return [_cell(options, size, *contender) for size in spec["sizes"] for contender in contenders()]


def require() -> None:
    """Raise ``ImportError``, naming the install line, if a peer is missing."""
    if missing := [name for name in PEERS if importlib.util.find_spec(name) is None]:
        raise ImportError(f'bench needs {", ".join(missing)}: pip install -e ".[bench]"')


def contenders() -> Iterator[tuple[str, str, tuple[Variant, ...]]]:
    """Yield (workload, contender, the timed estimator): peers, the floor, and every registered estimator."""
    for kind, known in CONTENDERS.items():
        yield from ((kind, name, ()) for name in (*known, "floor"))
    for name, estimator in ESTIMATORS.items():
        yield "estimators", name, (Variant.of(name, **next(iter(estimator.variants), {})),)


def _cell(options: Options, size: tuple[int, ...], kind: str, name: str, variants: tuple[Variant, ...]) -> Cell:
    spec = options.of(SPEC)
    top = min(SINGLE_STEPS, spec["steps"]) if kind == "end_to_end" else spec["steps"]
    if math.prod(size) >= LARGE and (kind == "surface" or name in SLOW):
        top = min(top, SLOW_STEPS if name in SLOW else LARGE_STEPS)
    extra = {"workload": kind, "contender": name, "size": size, "steps_max": top}
    extra |= {"threads": THREADS, "repetitions": spec["repetitions"]}
    return Cell(
        measure="toy_models.bench.measure:measure",
        problem="x".join(map(str, size)),
        path="condot",
        times=(T,),
        samples=size[0],
        variants=variants,
        seed=options.seed,
        dtype=options.dtype,
        device=options.device,
        extra=tuple(extra.items()),
    )


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give the ratio of the fastest peer of the same gradient at each size, and the distance to the floor."""
    row: dict[str, Any] = {"threads": int(table["threads"].max())}
    done = only(table, status="ok")
    for workload in ("surface", "end_to_end"):
        rows = only(done, workload=workload)
        peers = rows[~rows["contender"].isin(OWN) & (rows["agreement"] < EXACT)]
        fastest = peers.groupby("problem")["ratio"].min()
        row |= {f"{workload}_low": fastest.min(), f"{workload}_high": fastest.max()}
    floor = only(done, workload="surface", contender="floor")["ratio"]
    return {"facts": pd.DataFrame([row | {"floor_low": 1 / floor.max(), "floor_high": 1 / floor.min()}])}

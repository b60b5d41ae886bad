"""Lookahead gradients by this package and by others: every contender of ``toy_models.bench`` at every size."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.experiment import Cell
from analysis.gradients import ESTIMATORS
from analysis.settings import Options, Variant
from analysis.tables import only
from toy_models.bench.contenders import (
    BASE,
    BASE_STEPS,
    CONTENDERS,
    LARGE,
    LARGE_STEPS,
    PEERS,
    SCALING,
    SINGLE_STEPS,
    SIZES,
    SLOW,
    SLOW_STEPS,
    STEPS,
    THREADS,
    T,
)

OWN = ("ours", "ours_torch", "ours_cells", "floor", "floor_loop")
WORKLOADS = ("surface", "end_to_end")
EXACT = 1e-8  # contenders that differ by more compute another gradient
SERIAL = True
PACKAGES = PEERS
SPEC = {
    "quick": {"sizes": SIZES[:1], "steps": 8, "repetitions": 3, "scaling": 2},
    "full": {"sizes": SIZES, "steps": STEPS[-1], "repetitions": 7, "scaling": None},
}


def cells(options: Options) -> list[Cell]:
    """Make one cell per size, workload and contender, and one per size that is scaled.

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
    product = itertools.product(spec["sizes"], contenders())
    made = [_cell(options, size, _top(spec, size, *contender[:2]), *contender) for size, contender in product]
    return made + [_cell(options, *point) for point in scaled(spec["scaling"])]


def require() -> None:
    """Raise ``ImportError``, naming the install line, if a peer is missing."""
    if missing := [name for name in PEERS if importlib.util.find_spec(name) is None]:
        raise ImportError(f'bench needs {", ".join(missing)}: pip install -e ".[bench]"')


def contenders() -> Iterator[tuple[str, str, tuple[Variant, ...]]]:
    """Yield (workload, contender, the timed estimator): peers, the floors, and every registered estimator."""
    for kind in WORKLOADS:
        yield from ((kind, name, ()) for name in (*CONTENDERS[kind], "floor", "floor_loop"))
    for name, estimator in ESTIMATORS.items():
        yield "estimators", name, (Variant.of(name, **next(iter(estimator.variants), {})),)


def scaled(most: int | None) -> Iterator[tuple[tuple[int, ...], int, str, str, tuple[Variant, ...]]]:
    """Yield (size, steps, which of them is scaled, contender, no estimator), the ``most`` smallest of each kind."""
    for kind, values in SCALING.items():
        for value in values[:most]:
            batch, d, k = BASE
            size = (value if kind == "samples" else batch, d, value if kind == "components" else k)
            yield size, value if kind == "steps" else BASE_STEPS, kind, "ours_torch", ()


def _top(spec: Mapping[str, Any], size: tuple[int, ...], kind: str, name: str) -> int:
    top = min(SINGLE_STEPS, spec["steps"]) if kind == "end_to_end" else spec["steps"]
    if math.prod(size) >= LARGE and (kind == "surface" or name in SLOW):
        return min(top, SLOW_STEPS if name in SLOW else LARGE_STEPS)
    return top


def _cell(
    options: Options, size: tuple[int, ...], top: int, kind: str, name: str, variants: tuple[Variant, ...]
) -> Cell:
    spec = options.of(SPEC)
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
    for workload in WORKLOADS:
        rows = only(done, workload=workload)
        peers = rows[~rows["contender"].isin(OWN) & (rows["agreement"] < EXACT)]
        fastest = peers.groupby("problem")["ratio"].min()
        row |= {f"{workload}_low": fastest.min(), f"{workload}_high": fastest.max()}
    surface = only(done, workload="surface")
    for name in ("floor", "floor_loop", "ours_torch"):
        ratio = only(surface, contender=name)["ratio"] ** (1 if name == "ours_torch" else -1)
        row |= {f"{name}_low": ratio.min(), f"{name}_high": ratio.max()}
    for name, rows in done[done["workload"].isin(SCALING)].groupby("workload"):
        each = rows["ours_seconds"] / rows["operations"]
        row[f"{name}_spread"] = each.max() / each.min()
    return {"facts": pd.DataFrame([row])}

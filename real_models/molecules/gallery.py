"""Molecules as tables that can be drawn: atoms and bonds in the plane in which a molecule spreads most."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from real_models.molecules import chemistry, judging
from real_models.molecules.data import ELEMENTS, property_index
from real_models.molecules.network import event
from real_models.molecules.property_loss import predictor

SHOWN = ("unguided", "greedy", "end_to_end")
PLACE = ["property", "estimator"]
ABOUT = [*PLACE, "wanted", "value", "stable"]
ATOMS = [*ABOUT, "atom", "element", "x", "y", "depth"]
BONDS = [*PLACE, "order", "x", "y", "to_x", "to_y"]


def drawn(made: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the molecules of the first target of every property, by source optimisation at its largest budget.

    Parameters
    ----------
    made : rows of the experiment ``molecules``, without those of candidates

    Returns
    -------
    dict
        "atoms", with the molecule's property as the evaluator sees it (``value``), coordinates in Angstrom and
        ``depth``, which grows towards the reader; and "bonds".
    """
    rows = made[(made["setting"] == "source") & made["estimator"].isin(SHOWN)]
    rows = rows[rows["budget"] == rows.groupby("estimator")["budget"].transform("max")]
    rows = rows[rows["order"] == rows.groupby("property")["order"].transform("min")]
    stable = rows[rows["metric"] == "stable"].set_index(PLACE)["value"]
    atoms: list[dict[str, Any]] = []
    bonds: list[dict[str, Any]] = []
    for row in rows[rows["metric"] == "error"].to_dict("records"):
        place = {name: row[name] for name in PLACE}
        types, position = judging.read(row["molecule"])
        about = place | {"wanted": row["wanted"], "value": seen(types, position, row["property"])}
        about |= {"stable": stable[tuple(place.values())] == 1}
        flat = position - position.mean(0)
        flat = flat @ torch.linalg.svd(flat, full_matrices=False)[2].T
        for i, (kind, (x, y, depth)) in enumerate(zip(types.tolist(), flat.tolist(), strict=True)):
            atoms.append(about | {"atom": i, "element": ELEMENTS[kind], "x": x, "y": y, "depth": depth})
        orders = chemistry.bonds(types[None], position[None])[0]
        for i, j in orders.tril().nonzero().tolist():
            ends = {"x": flat[i, 0], "y": flat[i, 1], "to_x": flat[j, 0], "to_y": flat[j, 1]}
            bonds.append(place | {"order": int(orders[i, j])} | {name: float(value) for name, value in ends.items()})
    return {"atoms": pd.DataFrame(atoms, columns=ATOMS), "bonds": pd.DataFrame(bonds, columns=BONDS)}


def seen(types: Tensor, position: Tensor, name: str) -> float:
    """Return a property of a molecule, types (N,) at positions (N, 3) in Angstrom, as the evaluator sees it."""
    values = predictor("evaluator")(event(types[None], position[None]).float())
    return float(values[0, property_index(name)])

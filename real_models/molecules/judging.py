"""Judgement of molecules that were made for wanted values: by both predictors, by their chemistry, by GFN2-xTB.

All judges see the decoded molecule: the likeliest type of each atom, and coordinates. ``METRICS`` are

- error, guide_error: the absolute error of the property as the evaluator and as the guide see it, in ``data.UNITS``;
- stable, stable_atoms: 1 for a molecule whose atoms are all stable, and the share of stable atoms;
- valid: 1 for one that RDKit can sanitise (extra ``molecules``);
- xtb_error: the absolute error by GFN2-xTB (extra ``molecules``), NaN where it has no value, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from real_models.molecules import chemistry, xtb
from real_models.molecules.flow import decode
from real_models.molecules.network import event
from real_models.molecules.predictor import Predictor
from real_models.molecules.targets import Targets

METRICS = ("error", "guide_error", "stable", "stable_atoms", "valid", "xtb_error")
PHYSICS = ("valid", "xtb_error")


def predicted_errors(x: Tensor, targets: Targets, network: Predictor) -> Tensor:
    """Return the absolute errors (B,) of the decoded events x (B, N, 8), as a predictor sees them."""
    atoms, position = decode(x)
    seen = network(event(atoms, position)).double()
    return (seen.gather(1, targets.index()[:, None])[:, 0] - targets.wanted).abs()


def judgements(
    x: Tensor, targets: Targets, evaluator: Predictor, guide: Predictor, physics: bool
) -> Iterator[tuple[str, list[float], list[str]]]:
    """Judge events x (B, N, 8).

    Parameters
    ----------
    physics : whether to judge also by ``PHYSICS``, which needs the extra ``molecules``

    Yields
    ------
    tuple
        A metric, its values (B,), and as many statuses, "ok" or why there is no value.
    """
    atoms, position = decode(x)
    stable, fine = chemistry.stable_atoms(atoms, position).double(), ["ok"] * len(x)
    for metric, network in (("error", evaluator), ("guide_error", guide)):
        errors = predicted_errors(x, targets, network)
        usable = errors.isfinite()
        statuses = ["ok" if one else "the predictor overflows" for one in usable.tolist()]
        yield metric, torch.where(usable, errors, math.nan).tolist(), statuses
    yield "stable", stable.prod(1).tolist(), fine
    yield "stable_atoms", stable.mean(1).tolist(), fine
    if physics:
        yield "valid", [float(name is not None) for name in chemistry.judge(atoms, position).smiles], fine
        yield "xtb_error", *_by_physics(atoms, position, targets)


def _by_physics(atoms: Tensor, position: Tensor, targets: Targets) -> tuple[list[float], list[str]]:
    values, statuses = [], []
    for numbers, place, name, wanted in zip(atoms, position, targets.properties, targets.wanted.tolist(), strict=True):
        value, status = math.nan, "ok"
        if name not in xtb.PROPERTIES:
            status = "not judged by this method"
        else:
            try:
                value = abs(xtb.predicted(numbers, place, name) - wanted)
            except xtb.JudgeError as error:
                status = str(error)
        values.append(value)
        statuses.append(status)
    return values, statuses


def required() -> None:
    """Raise ``ImportError`` with the line that installs it if a package of ``PHYSICS`` is missing."""
    chemistry.require()
    xtb.require()


def text(x: Tensor) -> list[str]:
    """Write decoded events x (B, N, 8) as strings: types and thousandths of Angstrom.

    Returns
    -------
    list
        B strings of N parts "type,x,y,z", with blanks between them.
    """
    atoms, position = decode(x)
    rows = (torch.cat([atoms[..., None].double(), (1000 * position.double()).round()], -1)).long().tolist()
    return [" ".join(",".join(map(str, atom)) for atom in row) for row in rows]


def read(written: str) -> tuple[Tensor, Tensor]:
    """Return the types (N,) and coordinates (N, 3) in Angstrom of a molecule as ``text`` writes it."""
    rows = torch.tensor([[int(number) for number in atom.split(",")] for atom in written.split()])
    return rows[:, 0], rows[:, 1:].double() / 1000


def columns(targets: Targets, first: int = 0) -> list[dict[str, Any]]:
    """Return what a row says of its target, for each of B.

    Returns
    -------
    list
        Dictionaries of the property, its wanted value, its spread in the data, the number of atoms, and an index that
        counts from ``first``.
    """
    pairs = zip(targets.properties, targets.wanted.tolist(), targets.spread().tolist(), strict=True)
    about = [{"property": name, "wanted": value, "spread": spread} for name, value, spread in pairs]
    return [one | {"atoms": targets.atoms, "order": first + i} for i, one in enumerate(about)]

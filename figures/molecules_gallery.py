"""Molecules made for the same target: unguided, and by source optimisation with two gradients."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from analysis.tables import only
from figures import style
from figures.style import names

TABLES = ("molecules_atoms", "molecules_bonds", "molecules_facts")
QUESTION = "What do guided molecules look like?"
answer = style.Caption(
    "Of all atoms {stable_atoms_unguided:.0%} are stable without guidance, {stable_atoms_end_to_end:.0%} with "
    "end-to-end's gradient.",
    "Of the atoms of greedy's molecules {stable_atoms_greedy:.0%} are stable.",
    "The first target of each property, from the same noise; below each molecule its value as the evaluator sees it. "
    "Hydrogen white, carbon grey, nitrogen blue, oxygen red, fluorine green; a red frame: not all atoms are stable.",
)
COLOURS = {"H": "white", "C": "0.35", "N": "tab:blue", "O": "tab:red", "F": "tab:green"}
RADII = {"H": 0.25}
OTHERS = 0.4  # the radius of other elements, in Angstrom
UNITS = {"alpha": "Bohr³", "gap": "meV", "homo": "meV", "lumo": "meV", "mu": "D", "Cv": "cal/mol K"}
SHOWN = {"alpha": "α", "gap": "gap", "homo": "HOMO", "lumo": "LUMO", "mu": "μ", "Cv": "$C_v$"}
REACH = 7.0  # of a panel, in Angstrom, at most


@style.figure(letters=False)
def draw(tables: style.Tables) -> Figure:
    """Draw a row per method and a column per property."""
    atoms = tables["molecules_atoms"]
    methods, properties = style.values(atoms, "estimator"), style.values(atoms, "property")
    width = style.TEXT_WIDTH / len(properties)
    height = len(methods) * (min(width, 1.2) + 0.2) + 0.3
    reach = min(atoms[["x", "y"]].abs().max(axis=None) + 2 * OTHERS, REACH)
    figure, grid = plt.subplots(len(methods), len(properties), figsize=(style.TEXT_WIDTH, height), squeeze=False)
    for row, method in zip(grid, methods, strict=True):
        row[0].set_ylabel(names.sampler(method))
        for ax, name in zip(row, properties, strict=True):
            place = {"estimator": method, "property": name}
            _molecule(ax, only(atoms, **place), only(tables["molecules_bonds"], **place), name, reach)
    for ax, name in zip(grid[0], properties, strict=True):
        ax.set_title(f"{SHOWN[name]} = {number(only(atoms, property=name)['wanted'].iloc[0])}")
    return figure


def _molecule(ax: Axes, atoms: pd.DataFrame, bonds: pd.DataFrame, name: str, reach: float) -> None:
    for bond in bonds.to_dict("records"):
        ends = [bond["x"], bond["to_x"]], [bond["y"], bond["to_y"]]
        ax.plot(*ends, color="0.55", linewidth=1.1 * bond["order"], zorder=1)
    for rank, atom in enumerate(atoms.sort_values("depth").to_dict("records")):
        place, radius = (atom["x"], atom["y"]), RADII.get(atom["element"], OTHERS)
        face = COLOURS[atom["element"]]
        ax.add_patch(Circle(place, radius, facecolor=face, edgecolor="0.2", linewidth=0.4, zorder=2 + rank))
    ax.set(xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.spines[:].set_visible(True)
    if len(atoms):
        ax.spines[:].set_color("0.85" if atoms["stable"].all() else "tab:red")
        ax.set_xlabel(f"{number(atoms['value'].iloc[0])} {UNITS[name]}", fontsize=style.SMALL, labelpad=2)


def number(value: float) -> str:
    """Return a value with three digits, or all before the point where there are more, with a typographic minus."""
    return (f"{value:#.3g}" if abs(value) < 100 else f"{value:.0f}").replace("-", "−")

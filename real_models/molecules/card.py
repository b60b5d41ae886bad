"""Model cards of the networks of molecules: ``python -m real_models.molecules.card`` (extra ``molecules``) writes them.

For the flow: the record of its training, and stability, validity, uniqueness and novelty of samples, with a picture of
fifty of them. For the predictors: mean absolute errors on molecules that none of them was trained on. Written as
Markdown beside the weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis import results
from real_models import options
from real_models.molecules import WEIGHTS, chemistry, data
from real_models.molecules.flow import decode, network, sample
from real_models.molecules.property_loss import PREDICTORS
from real_models.molecules.train import parse

COUNT, SHOWN, COLUMNS, STEPS, SEED = 512, 50, 10, 40, 0
COLOURS = {"H": "white", "C": "0.35", "N": "tab:blue", "O": "tab:red", "F": "tab:green"}
RADII = {"H": 0.25, "C": 0.4, "N": 0.4, "O": 0.4, "F": 0.4}  # drawn, in Angstrom
EDM = {"alpha": 0.10, "gap": 64, "homo": 39, "lumo": 36, "mu": 0.043, "Cv": 0.040}
SHARES = {
    "atom_stability": "stable atoms",
    "molecule_stability": "stable molecules",
    "validity": "valid (RDKit sanitises the largest connected part)",
    "valid_and_connected": "valid and connected",
    "uniqueness": "unique among the valid",
    "novelty": "not in the training half, among the unique",
}


def judged(events: dict[int, Tensor]) -> chemistry.Judgement:
    """Judge the chemistry of samples, given as {n: (B, n, 8)}."""
    whole = chemistry.Judgement([], [], [], [])
    for x in events.values():
        whole = whole + chemistry.judge(*decode(x))
    return whole


def draw(ax: Axes, atoms: Tensor, position: Tensor) -> None:
    """Draw one molecule, (N,) and (N, 3), along its thinnest direction; an unstable one is framed in red."""
    orders, stable = (of(atoms[None], position[None])[0] for of in (chemistry.bonds, chemistry.stable_atoms))
    axes = torch.linalg.svd(position, full_matrices=False)[2]
    place = (position @ axes.T).numpy() if len(position) > 2 else position.numpy()
    depth = np.argsort(place[:, 2])
    for i, j in orders.tril().nonzero().tolist():
        width = 1.2 * int(orders[i, j])
        ax.plot(*place[[i, j], :2].T, color="0.55", linewidth=width, zorder=1)
    for rank, i in enumerate(depth):
        name = data.ELEMENTS[int(atoms[i])]
        circle = plt.Circle(
            (place[i, 0], place[i, 1]), RADII[name], facecolor=COLOURS[name], edgecolor="0.2", linewidth=0.4
        )
        circle.set_zorder(2 + rank)
        ax.add_patch(circle)
    reach = max(2.0, float(np.abs(place[:, :2]).max()) + 0.6)
    ax.set(xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    for spine in ax.spines.values():
        spine.set(color="0.85" if stable.all() else "tab:red", linewidth=0.8)


def picture(events: dict[int, Tensor], shown: int = SHOWN, seed: int = SEED) -> Figure:
    """Return a figure of ``shown`` of the samples {n: (B, n, 8)}, chosen at random."""
    every = [decode(x[None]) for group in events.values() for x in group]
    chosen = np.random.default_rng(seed).permutation(len(every))[:shown]
    rows = -(-len(chosen) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(8, 0.8 * rows), squeeze=False, layout="none")
    for ax in axes.flat[len(chosen) :]:
        ax.axis("off")
    for ax, i in zip(axes.flat, chosen, strict=False):
        draw(ax, every[i][0][0], every[i][1][0].double())
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.995, wspace=0.04, hspace=0.04)
    return figure


TEXT = """# Model card: the learned flow of molecules

A transformer of {parameters:,} parameters that predicts the velocity of the CondOT path on molecules of QM9, atoms and
coordinates together (`real_models.molecules.flow`). It turns, mirrors and permutes with the molecule exactly.
{note}
| | |
|---|---|
| data | QM9 (Ramakrishnan et al. 2014): {half} molecules trained on, none of which the evaluator saw |
| steps, batch | {steps_done}, {batch} |
| device, precision, seconds of wall time | {device} (threads: {threads}), {precision}, {seconds} |
| held-out loss, mean and 95 % interval over {held_out} molecules | {mean:.4f} [{low:.4f}, {high:.4f}] |
{shares}

Shares are of {count} samples ({solver}, {drawn} steps) with 95 % intervals of Wilson. Bonds are those of the distance
tables of Hoogeboom et al. 2022 (EDM, arXiv 2203.17003), by which {real_atoms:.1%} of the atoms and {real:.1%} of the
molecules of the data are stable. EDM reaches 98.7 % and 82 %, EquiFM (arXiv 2312.07168) 98.9 % and 88 %.

![fifty samples](flow_samples.png)

*Fifty samples, each seen along its thinnest direction: carbon grey, hydrogen white, nitrogen blue, oxygen red, fluorine
green; framed in red where an atom is not stable.* To make them again:

```bash
python -m real_models.molecules.train flow --seconds {budget}{flags}
python -m real_models.molecules.card
```
"""
PREDICTED = """# Model card: the predictors of properties

Two networks of {parameters:,} parameters that read coordinates and soft atom types
(`real_models.molecules.property_loss.predictor`). The guide saw the half of the training part that the flow saw, the
evaluator the other half; they share no molecule. Both were trained on molecules with noise of up to 0.02 Angstrom in
coordinates and 0.1 in types.

| | guide | evaluator |
|---|---|---|
| molecules | {guide_half} | {evaluator_half} |
| steps, batch | {guide_steps} | {evaluator_steps} |
| seconds of wall time ({device}) | {guide_seconds} | {evaluator_seconds} |

Mean absolute error on {held_out} molecules of the test part, with 95 % bootstrap intervals, beside EDM's evaluator:

| property | guide | evaluator | EDM's |
|---|---|---|---|
{rows}

```bash
python -m real_models.molecules.train guide --seconds {guide_seconds}{guide_flags}
python -m real_models.molecules.train evaluator --seconds {evaluator_seconds}{evaluator_flags}
```
"""


def text(about: dict[str, Any]) -> str:
    """Return the card of the flow from its record."""
    samples = about["samples"]
    rows = (
        "| {} | {:.1%} [{:.1%}, {:.1%}] |".format(title, *samples["shares"][name]) for name, title in SHARES.items()
    )
    plan = about["plan"]
    fields = about | about["held_out_loss"] | {"half": about["split"]["flow"], "shares": "\n".join(rows)}
    fields |= {"count": samples["count"], "solver": samples["solver"], "drawn": samples["steps"]}
    fields |= {"real_atoms": samples["data"]["atom_stability"][0], "real": samples["data"]["molecule_stability"][0]}
    fields |= {"precision": "bfloat16 autocast" if plan["bfloat16"] else "float32", "budget": about["seconds"]}
    fields |= {"note": f"\n{about['note']}\n" if about.get("note") else ""}
    return TEXT.format(**fields, flags=flags(about))


def flags(about: dict[str, Any]) -> str:
    """Return the options that a training had other than by default, from its record."""
    plan, default = about["plan"], parse(["flow"])
    said = {"batch": about["batch"], "learning_rate": plan["learning_rate"], "device": plan["device"]}
    some = [f" --{name.replace('_', '-')} {value}" for name, value in said.items() if value != getattr(default, name)]
    return "".join(some) + " --float32" * (not plan["bfloat16"])


def predictors_text(abouts: dict[str, dict[str, Any]]) -> str:
    """Return the card of the predictors from their records, by name."""
    guide = abouts["guide"]
    fields: dict[str, Any] = {name: guide[name] for name in ("parameters", "device", "held_out")}
    for name, about in abouts.items():
        fields |= {f"{name}_half": about["split"][about.get("half", "flow")], f"{name}_seconds": about["seconds"]}
        fields |= {f"{name}_steps": f"{about['steps_done']}, {about['batch']}", f"{name}_flags": flags(about)}
    rows = [
        f"| {name}, {data.UNITS[name]} | "
        + " | ".join(_error(about["mae"][name]) for about in abouts.values())
        + f" | {EDM[name]:g} |"
        for name in data.PROPERTIES
    ]
    return PREDICTED.format(**fields, rows="\n".join(rows))


def _error(interval: dict[str, float]) -> str:
    digits = max(0, 2 - int(np.floor(np.log10(interval["mean"]))))
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*(interval[key] for key in ("mean", "low", "high")), d=digits)


def measure(count: int, steps: int, folder: Path) -> tuple[dict[str, Any], Figure]:
    """Return the record of samples of the flow in ``folder``, and their picture."""
    events = sample(count, steps, seed=SEED, velocity=network(path=folder / "flow.safetensors"))
    training = chemistry.judge_part("flow")
    shares = chemistry.shares(judged(events), [name for name in training.smiles if name])
    about = {"count": count, "steps": steps, "solver": "midpoint", "seed": SEED, "shares": shares}
    real = chemistry.shares(training, [])
    return about | {"data": {name: real[name] for name in tuple(SHARES)[:4]}}, picture(events)


def _write(path: Path, content: str) -> None:
    results.write_text(path, content)


@options.in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the cards of all networks whose weights are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=options.count, default=COUNT, help="samples of the flow")
    parser.add_argument("--steps", type=options.count, default=STEPS, help="midpoint steps of each")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="folder of weights and cards")
    asked = parser.parse_args(arguments)
    folder = asked.folder
    if (folder / "flow.json").exists():
        about = json.loads((folder / "flow.json").read_text())
        about["samples"], figure = measure(asked.count, asked.steps, folder)
        results.write_json(folder / "flow.json", about)
        results.write_whole(folder / "flow_samples.png", partial(figure.savefig, format="png", dpi=150))
        _write(folder / "flow.md", text(about))
    if all((folder / f"{name}.json").exists() for name in PREDICTORS):
        abouts = {name: json.loads((folder / f"{name}.json").read_text()) for name in PREDICTORS}
        _write(folder / "predictors.md", predictors_text(abouts))


if __name__ == "__main__":
    main()

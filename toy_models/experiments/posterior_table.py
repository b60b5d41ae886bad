"""Guided samples of real held-out images for every operator, compared with the exact posterior: methods x operators.

The images are digits to which no mixture was fitted, and not samples of a mixture. The truth is therefore the posterior
of the fitted model given their measurements: it is exact for the model, though the model is not exact for the images.
Samplers are judged by how well they sample it. A measurement of a real image may be unlikely under the model, unlike
those of its own samples, so these numbers may differ from those of ``outcome``.

Methods are tuned as in ``outcome``, here on other held-out images, and most of them are the same. There are more:
adaptive lookahead, which may cost as much as an end-to-end solve; PiGDM with its own r_t, that of data of unit
variance; LGD; MPGD's gradient, without the Jacobian; on the 8x8 digits TMPD, which takes a product for every measured
value, and everywhere DTMPD, its authors' method for images; and OC-Flow, FlowGrad with a price of 1 on the control. For
MNIST, where an evaluation costs most, solves that are differentiated end to end have half as many steps as those that
sample. A cell is one method on one operator; the cheap methods also run along a second path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.experiment import Cell
from analysis.guidance import Method
from analysis.operators import OPERATORS, inverse_problem
from analysis.paths import PATHS, AffinePath
from analysis.settings import Options, Variant
from analysis.tables import only
from toy_models.experiments import outcome
from toy_models.experiments.outcome import BASELINE, DISTANCE, METRICS, NOISE, STEPS, AnyMixtureFlow
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.posteriors.measurements import measured_batch
from toy_models.problems import digits, mnist
from toy_models.problems.zoo import build

SUITE = "guidance"
PLACES = ("problem", "path", "operator", "noise")
PATH, OTHER_PATH = "condot", "cosine"
CHEAP = ("exact", "oracle_ode", "unguided", BASELINE, "dps:greedy", "likelihood:two_step_euler", "likelihood:midpoint")
PRINTED = "energy_distance"  # in the LaTeX table; the others are in the table "paper"


def _with(name: str, **options: object) -> Method:
    """Return a method of ``outcome`` with some of its options replaced."""
    base = outcome.METHODS[name]
    return replace(base, options=base.options | options)


def _methods(solve: int) -> dict[str, Method]:
    """Return the methods by name, in the table's order; ``solve`` is the number of steps of differentiated solves."""
    end = Variant.of("end_to_end", steps=solve, solver="euler")
    adaptive = Variant.of("adaptive", tolerance=0.1, max_steps=solve // 2)
    controls = {"intervals": 8, "steps": solve // 8}
    return {name: outcome.METHODS[name] for name in CHEAP} | {
        "likelihood:adaptive": _with(BASELINE, lookahead=adaptive),
        "likelihood:end_to_end": _with(BASELINE, lookahead=end),
        "likelihood:pigdm": _with(BASELINE, lookahead=Variant.of("pigdm")),
        "likelihood:dtmpd": _with(BASELINE, lookahead=Variant.of("dtmpd")),
        "likelihood:lgd": _with(BASELINE, lookahead=Variant.of("lgd")),
        "likelihood:identity_jacobian": _with(BASELINE, lookahead=Variant.of("identity_jacobian", scale="alpha")),
        "mgps": outcome.METHODS["mgps"],
        "d_flow": _with("d_flow", gradient=end),
        "flowgrad": _with("flowgrad", **controls),
        "oc_flow": replace(_with("flowgrad", weight=1.0, **controls), family="oc_flow"),
    }


@dataclass(frozen=True)
class Dataset:
    """Side of the images, methods, and sizes: samples and exact samples per measurement, images to tune on."""

    side: int
    methods: Mapping[str, Method]
    members: int
    exact: int
    held_out: int

    def flow(self, path: AffinePath) -> AnyMixtureFlow:
        """Return the fitted mixture's flow along a path."""
        if self.side == mnist.SIDE:
            return mnist.flow(path)
        flow = build("digits", path)
        assert isinstance(flow, MixtureFlow)
        return flow

    def images(self) -> Tensor:
        """Return the held-out images (n, d)."""
        return mnist.held_out()[0] if self.side == mnist.SIDE else torch.from_numpy(digits.held_out()[0])


# Two samples of an MNIST measurement are the least that an energy distance takes; it is unbiased for any number.
DATASETS = {
    "digits": Dataset(
        outcome.SIDE,
        _methods(STEPS) | {"likelihood:tmpd": _with(BASELINE, lookahead=Variant.of("tmpd"))},
        members=8,
        exact=64,
        held_out=12,
    ),
    "mnist": Dataset(mnist.SIDE, _methods(STEPS // 2), members=2, exact=32, held_out=6),
}
QUICK = {
    "digits": (("box_inpainting", "super_resolution_2"), ("exact", "oracle_ode", "unguided", BASELINE, "dps:greedy")),
    "mnist": (("super_resolution_4",), ("exact", "unguided", BASELINE)),
}
QUICK_STEPS = 4


def cells(options: Options) -> list[Cell]:
    """Return a cell per data set, operator and method, and more of the cheap methods along the second path."""
    if options.quick:
        return [_cell(options, d, o, m) for d, (some, methods) in QUICK.items() for o in some for m in methods]
    main = [_cell(options, d, o, m) for d, data in DATASETS.items() for o in OPERATORS for m in data.methods]
    return main + [_cell(options, "digits", o, m, OTHER_PATH) for o in outcome.OPERATORS for m in CHEAP]


def _cell(options: Options, problem: str, operator: str, name: str, path: str = PATH) -> Cell:
    data = DATASETS[problem]
    sizes = {"members": data.members, "exact": data.exact, "held_out": data.held_out}
    sizes |= {"members": 2, "exact": 8, "held_out": 2, "quick": True} if options.quick else {}
    shared = outcome.cell(options, operator, NOISE, name)
    return replace(
        shared,
        measure=f"{__name__}:measure",
        factory="toy_models.problems.mnist:flow" if problem == "mnist" else shared.factory,
        problem=problem,
        path=path,
        samples=6 if options.quick else shared.samples,
        extra=(("operator", operator), ("noise", NOISE), *sizes.items()),
    )


def measure(cell: Cell) -> pd.DataFrame:
    """Tune the cell's method on some held-out images and measure it on others.

    The images are the same for all operators and methods.

    Returns
    -------
    DataFrame
        One row per measurement and metric.
    """
    data, extra, generator = DATASETS[cell.problem], cell.extra_dict, cell.generator()
    images = data.images()
    order = torch.randperm(len(images), generator=generator)[: extra["held_out"] + cell.samples]
    flow, problem = data.flow(PATHS[cell.path]()), inverse_problem(extra["operator"], data.side, extra["noise"])
    sizes = {"members": extra["members"], "exact": extra["exact"]}
    batches = [
        measured_batch(flow.mixture, problem, images[part], generator, **sizes)
        for part in order.split([extra["held_out"], cell.samples])
    ]
    method = data.methods[cell.variants[0].estimator]
    return outcome.measure_method(cell, _shortened(method) if "quick" in extra else method, flow, *batches)


def _shortened(method: Method) -> Method:
    """Return a method with fewer steps and candidates."""
    options = {k: min(v, QUICK_STEPS) if k in ("steps", "iterations") else v for k, v in method.options.items()}
    return replace(method, options=options, candidates=method.candidates[2:4])


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return means with intervals, paired differences to greedy, and the table of methods x operators."""
    summary, paired = outcome.summarise(table, PLACES)
    relative = relative_to_unguided(summary)
    tables = {"summary": summary, "paired": paired, "paper": printed_table(summary), "relative": relative}
    return tables | {"facts": facts(relative, paired)}


def relative_to_unguided(summary: pd.DataFrame) -> pd.DataFrame:
    """Return energy distances, their medians and intervals over the mean of unguided samples at the same place."""
    rows = only(summary, metric=DISTANCE)
    unguided = only(rows, estimator="unguided").set_index(list(PLACES))["mean"].rename("unguided")
    rows = rows.join(unguided, on=list(PLACES))
    ends = {name: rows[name] / rows["unguided"] for name in ("mean", "median", "low", "high")}
    return rows.assign(**ends).drop(columns="unguided").reset_index(drop=True)


def facts(relative: pd.DataFrame, paired: pd.DataFrame) -> pd.DataFrame:
    """Give greedy's remaining distance by data set, the best method, and counts of paired differences to greedy."""
    guided = relative[~relative["family"].isin(["exact", "oracle"]) & relative["mean"].notna()]
    main = only(guided, path=PATH)
    row: dict[str, Any] = {"noise": main["noise"].iloc[0]}
    for problem, rows in main.groupby("problem", sort=False):
        left = only(rows, estimator=BASELINE)
        row |= {f"{problem}_low": left["mean"].min(), f"{problem}_high": left["mean"].max()}
        row |= {f"{problem}_median_low": left["median"].min(), f"{problem}_median_high": left["median"].max()}
        row |= {f"{problem}_images": int(rows["measurements"].max())}
    wins = main.loc[main.groupby(["problem", "operator"])["mean"].idxmin(), "estimator"].value_counts()
    row |= {"best": wins.index[0], "wins": int(wins.iloc[0]), "places": int(wins.sum())}
    pairs = only(paired, metric=DISTANCE, path=PATH).dropna(subset="mean")
    pairs = pairs[~pairs["family"].isin(["exact", "oracle", "unguided"]) & (pairs["estimator"] != BASELINE)]
    pairs = pairs.assign(better=pairs["high"] < 0, worse=pairs["low"] > 0)
    row |= {"pairs": len(pairs)} | pairs[["better", "worse"]].sum().to_dict()
    for name, counts in pairs.groupby("estimator")[["better", "worse"]].sum().iterrows():
        row |= {f"{str(name).replace(':', '_')}_{key}": count for key, count in counts.items()}
    row |= {"lost": lost} if (lost := ", ".join(only(relative, mean=None)["estimator"].unique())) else {}
    return pd.DataFrame([row | _other_path(guided)])


def _other_path(guided: pd.DataFrame) -> dict[str, int]:
    """Count pairs of methods with the same order along both paths, if there are two paths."""
    wide = only(guided, problem="digits").pivot(index=["operator", "estimator"], columns="path", values="mean").dropna()
    if wide.shape[1] < 2:
        return {}
    same = np.concatenate([_signs(part)[:, 0] == _signs(part)[:, 1] for _, part in wide.groupby(level="operator")])
    return {"same_order": int(same.sum()), "path_pairs": len(same)}


def _signs(values: pd.DataFrame) -> np.ndarray:
    """Return the signs of the differences (pairs, paths) of all pairs of rows."""
    first, second = np.triu_indices(len(values), 1)
    return np.sign(values.to_numpy()[first] - values.to_numpy()[second])


def printed_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Lay out "mean [low, high]" as methods x operators, by metric, data set, path and method.

    Evaluations, products and bytes are means over the operators, since those of adaptive lookahead depend on the
    operator.

    Returns
    -------
    DataFrame
        One row per metric, data set, path and method.
    """
    rows = summary[summary["metric"].isin(METRICS)].copy()
    ends = zip(rows["mean"], rows["low"], rows["high"], rows["failed_samples"], strict=True)
    rows["text"] = [outcome.format_interval(*end) for end in ends]
    keys = ["metric", "problem", "path", "noise", "estimator"]
    spent = rows.groupby(keys, sort=False)[["evaluations", "vjps", "bytes"]].mean()
    operators = list(dict.fromkeys(rows["operator"]))
    return spent.join(rows.pivot(index=keys, columns="operator", values="text")[operators]).reset_index()

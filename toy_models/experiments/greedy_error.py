"""The greedy gradient's error against zeta, over the zoo and the paths."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from analysis.experiment import Cell
from analysis.settings import Options, Variant
from analysis.tables import slopes
from toy_models.cells import error_cell
from toy_models.problems.zoo import PROBLEMS, ZOO_PATHS


def cells(options: Options) -> list[Cell]:
    """Return one cell per problem and path, with times at equal zeta."""
    problems = ("gaussian", "overlapping", "ring8") if options.quick else tuple(PROBLEMS)
    paths = ("condot", "vp_linear") if options.quick else tuple(ZOO_PATHS)
    zeta = torch.from_numpy(np.geomspace(1e-4, 5, 8 if options.quick else 16))
    return [
        error_cell(
            options,
            problem,
            path,
            ZOO_PATHS[path]().time_from_zeta(zeta).tolist(),
            samples=12 if options.quick else 24,
            settings=[Variant.of("greedy")],
        )
        for problem in problems
        for path in paths
    ]


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Fit the slope in zeta on the smallest zetas."""
    return {"slopes": slopes(table, ["problem", "path"], "zeta", points=5)}

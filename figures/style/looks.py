"""The look of every method, solver, path, problem and operator: one colour and marker each, in every figure.

Colours are told apart with the common colour-vision deficiencies. In one figure no two methods share marker, fill and
dashes, so that they are told apart in grey too. The more steps an estimator takes, the darker its marker is and the
longer the dashes of its line are; a white half, or a white marker without a number of steps, means lookahead or DPS.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import pandas as pd
from matplotlib.colors import to_rgb

from figures.style import names

Look = dict[str, Any]
BLUE, ORANGE, GREEN, RED, SKY, GREY = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#56b4e9", "#949494"
INDIGO, WINE, OLIVE, ROSE, PURPLE, TEAL = "#332288", "#882255", "#7a7a1f", "#cc6677", "#aa4499", "#2a8f86"
BROWN, SAND = "#a07d4f", "#ddcc77"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, INDIGO, SKY, OLIVE, ROSE, GREY, TEAL)
THEORY: Look = {"color": "0.35", "linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 1}
BOUND: Look = {"color": "0.6", "linestyle": ":", "linewidth": 0.9, "zorder": 1}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))

METHODS = {
    "ideal": ("black", "o"),
    "end_to_end": ("black", "o"),
    "greedy": (RED, "*"),
    "dps": (RED, "*"),
    "adaptive": (ORANGE, "P"),
    "euler": (BLUE, "o"),
    "midpoint": (GREEN, "s"),
    "heun": (WINE, "^"),
    "rk4": (INDIGO, "D"),
    "ddim": (SKY, "v"),
    "adjoint_backsolve": (GREY, "X"),
    "adjoint_cached": (OLIVE, "P"),
    "adjoint_interpolated": (PURPLE, "p"),
    "adjoint_deis": (TEAL, "d"),
    "control_average": (OLIVE, "h"),
    "identity_jacobian": (GREY, "<"),
    "truncated": (SKY, ">"),
    "lgd": (ROSE, "p"),
    "pigdm": (PURPLE, "d"),
    "tmpd": (WINE, "X"),
    "dtmpd": (WINE, "h"),
    "unguided": (GREY, "X"),
    "oracle_ode": (BROWN, ">"),
    "oracle_sde": (BROWN, "<"),
    "mgps": (ROSE, "D"),
    "d_flow": (INDIGO, "v"),
    "flowgrad": (TEAL, "^"),
    "oc_flow": (TEAL, "^"),
}
HOLLOW = ("dps", "unguided", "oc_flow", "adjoint_backsolve", "adjoint_cached", "adjoint_interpolated", "adjoint_deis")
STEPPED = {
    "two_step_euler": ("euler", 2),
    "greedy_more": ("greedy", 64),
    "oracle_ode_more": ("oracle_ode", 64),
}
"""Samplers' keys that do not end in their number of steps, as "midpoint_4" does."""
SHADES = ((0.75, 1.0), (0.5, 1.0), (0.0, 1.0), (0.35, 0.0), (0.65, 0.0))  # a share, and of white or of black
STEP_DASHES: tuple[Any, ...] = ((0, (1, 1.1)), (0, (2.5, 1.2)), (0, (5, 1.5)), (0, (8, 1.5)), "-")
"""Shades and dashes of 1, 2, 4, 8, and 16 or more steps."""
OTHER_SOLVERS = {"midpoint": "right", "heun": "top", "rk4": "left"}
"""The coloured half of an estimator with a look of its own, where its solver is not Euler's."""
CHECKPOINTING = {
    "store": (BLUE, "o"),
    "checkpoint": (ORANGE, "v"),
    "recursive": (GREEN, "^"),
    "reversible": (WINE, "D"),
}
ARITHMETIC = {
    "float32": ("black", "o"),
    "tf32": (ROSE, "D"),
    "bfloat16": (SKY, "v"),
    "channels_last": (INDIGO, "s"),
    "compile": (BLUE, "^"),
    "all": (SAND, "P"),
}
"""Colours that differ in lightness, as markers may show something else."""
TRUTHS = {"ideal": ("0.2", "^"), "score": ("0.55", "v")}
OPERATORS = (
    "box_inpainting",
    "random_inpainting",
    "super_resolution_2",
    "super_resolution_4",
    "gaussian_deblurring",
    "motion_deblurring",
    "compressed_sensing",
    "hdr_clipping",
    "nonlinear_blur",
)
"""In the order in which every figure has them."""
RESTORATION = (
    "measurement",
    "unguided",
    "greedy",
    "two_step_euler",
    "midpoint",
    "adaptive",
    "end_to_end",
    "dps",
    "mgps",
    "pigdm",
)
"""The methods that restore images, in the order of their figures."""
RULES: dict[str, Any] = {"likelihood": "-", "dps": (0, (1, 1))}
_SPARE = "PXhdp8<>"


def marked(colour: str, marker: str, hollow: bool = False) -> Look:
    """Return a look of one colour; hollow markers are white inside."""
    face = "white" if hollow else colour
    return {"color": colour, "marker": marker, "markerfacecolor": face, "markeredgecolor": colour}


def method(estimator: str, solver: object = None, steps: float | None = None) -> Look:
    """Choose the look of a method: that of its solver for lookahead and end-to-end, else its own.

    End-to-end markers are filled, lookahead markers hollow. A method without an entry gets a colour and a marker
    computed from its name, so they are the same in every figure.

    Parameters
    ----------
    estimator, solver : their keys
    steps : number of solver steps, where it tells methods of a figure apart

    Returns
    -------
    Look
        Colour, marker and its face, as keyword arguments of matplotlib.
    """
    solved = isinstance(solver, str) and bool(solver)
    through = solved and estimator in ("lookahead", "end_to_end")
    name = str(solver) if through else estimator
    spare = zlib.crc32(name.encode())
    colour, marker = METHODS.get(name, (PALETTE[spare % len(PALETTE)], _SPARE[spare // 16 % len(_SPARE)]))
    look = stepped(marked(colour, marker), steps) | ({"markersize": 6} if marker == "*" else {})
    if solved and not through and solver in OTHER_SOLVERS:
        look |= {"fillstyle": OTHER_SOLVERS[str(solver)], "markerfacecoloralt": "white"}
    return hollow(look) if name in HOLLOW or (through and estimator == "lookahead") else look


def stepped(look: Look, steps: float | None) -> Look:
    """Return a look with the shade and the dashes of a number of steps; the look itself for None."""
    if steps is None or math.isnan(steps):
        return look
    i = min(int(math.log2(steps)), len(SHADES) - 1)
    share, end = SHADES[i]
    shade = [(1 - share) * part + share * end for part in to_rgb(look["color"])]
    return look | {"markerfacecolor": tuple(shade), "fillstyle": "full", "linestyle": STEP_DASHES[i]}


def hollow(look: Look) -> Look:
    """Return a look with a white marker, or with a white upper half where the lower one shows a number of steps."""
    return look | (
        {"fillstyle": "bottom", "markerfacecoloralt": "white"} if "fillstyle" in look else {"markerfacecolor": "white"}
    )


def sampler(key: str) -> Look:
    """Return the look of a guided sampler "rule:estimator" or of another one; markers of DPS steps are hollow."""
    rule, _, estimator = key.rpartition(":")
    look = method(*_unstepped(names.SAMPLED.get(estimator, estimator)))
    return hollow(look) if rule == "dps" else look


def _unstepped(key: str) -> tuple[str, None, int | None]:
    """Return the method of a sampler's key, no solver, and the number of steps in the key, if any."""
    name, _, count = key.rpartition("_")
    default = (name, int(count)) if name in METHODS and count.isdigit() else (key, None)
    method, steps = STEPPED.get(key, default)
    return method, None, steps


def series(i: int) -> Look:
    """Return the look of the i-th of several problems: colour, marker and dash all differ, as prints may be grey."""
    return {"color": PALETTE[i % 10], "marker": "os^Dv<>ph8"[i % 10], "linestyle": DASHES[i % 4]}


def operators(table: pd.DataFrame, column: str = "operator") -> list[str]:
    """Return the operators of a table, in the order that all figures share."""
    there = set(table[column])
    return [*(name for name in OPERATORS if name in there), *sorted(there - {*OPERATORS, "all"})]

"""The look of every method, solver, path, problem and operator: one colour and marker each, in every figure.

Colours are told apart with the common colour-vision deficiencies, and no two methods share colour and marker.
"""

from __future__ import annotations

import zlib
from typing import Any

import pandas as pd

from figures.style import names

Look = dict[str, Any]
BLUE, ORANGE, GREEN, RED, SKY, GREY = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#56b4e9", "#949494"
INDIGO, WINE, OLIVE, ROSE, PURPLE, TEAL = "#332288", "#882255", "#7a7a1f", "#cc6677", "#aa4499", "#2a8f86"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, INDIGO, SKY, OLIVE, ROSE, GREY, TEAL)
THEORY: Look = {"color": "0.35", "linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 1}
BOUND: Look = {"color": "0.6", "linestyle": ":", "linewidth": 0.9, "zorder": 1}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))

METHODS = {
    "ideal": ("black", "o"),
    "end_to_end": ("black", "o"),
    "greedy": (RED, "*"),
    "greedy_more": (RED, "*"),
    "dps": (RED, "*"),
    "adaptive": (ORANGE, "P"),
    "euler": (BLUE, "o"),
    "midpoint": (GREEN, "s"),
    "heun": (WINE, "^"),
    "rk4": (INDIGO, "D"),
    "ddim": (SKY, "v"),
    "two_step_euler": (BLUE, "o"),
    "euler_4": (BLUE, "p"),
    "midpoint_1": (GREEN, "s"),
    "midpoint_4": (GREEN, "D"),
    "adjoint_backsolve": (GREY, "X"),
    "adjoint_cached": (OLIVE, "P"),
    "adjoint_interpolated": (PURPLE, "p"),
    "adjoint_deis": (TEAL, "d"),
    "control_average": (OLIVE, "h"),
    "identity_jacobian": (GREY, "<"),
    "truncated": (SKY, ">"),
    "lgd": (ROSE, "p"),
    "pigdm": (PURPLE, "8"),
    "tmpd": (WINE, "X"),
    "unguided": (GREY, "X"),
    "oracle_ode": ("#6b4c2a", "v"),
    "oracle_ode_more": ("#6b4c2a", "v"),
    "oracle_sde": ("#6b4c2a", "<"),
    "mgps": (ROSE, "D"),
    "d_flow": (INDIGO, "D"),
    "flowgrad": (TEAL, "^"),
    "oc_flow": (TEAL, "^"),
}
HOLLOW = ("dps", "oracle_ode_more", "oc_flow")
CHECKPOINTING = {
    "store": (BLUE, "o"),
    "checkpoint": (ORANGE, "s"),
    "recursive": (GREEN, "^"),
    "reversible": (WINE, "D"),
}
ARITHMETIC = {
    "float32": ("black", "o"),
    "tf32": (ORANGE, "D"),
    "bfloat16": (SKY, "v"),
    "channels_last": (GREY, "s"),
    "compile": (ROSE, "^"),
    "all": (OLIVE, "P"),
}
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


def method(estimator: str, solver: object = None) -> Look:
    """Choose the look of a method: that of its solver for lookahead and end-to-end, else its own.

    End-to-end markers are filled, lookahead markers hollow. A method without an entry gets a colour and a marker
    computed from its name, so they are the same in every figure.

    Returns
    -------
    Look
        Colour, marker and its face, as keyword arguments of matplotlib.
    """
    through = isinstance(solver, str) and solver and estimator in ("lookahead", "end_to_end")
    name = str(solver) if through else estimator
    spare = zlib.crc32(name.encode())
    colour, marker = METHODS.get(name, (PALETTE[spare % len(PALETTE)], _SPARE[spare // 16 % len(_SPARE)]))
    look = marked(colour, marker, hollow=bool(through) and estimator == "lookahead")
    return look | ({"markersize": 6} if marker == "*" else {})


def sampler(key: str) -> Look:
    """Return the look of a guided sampler "rule:estimator" or of another one; markers of DPS steps are hollow."""
    rule, _, estimator = key.rpartition(":")
    look = method(names.SAMPLED.get(estimator, estimator))
    if rule == "dps" or estimator in HOLLOW:
        look |= {"markerfacecolor": "white"}
    return look | ({"markersize": 8} if estimator == "greedy_more" else {})


def series(i: int) -> Look:
    """Return the look of the i-th of several problems: colour, marker and dash all differ, as prints may be grey."""
    return {"color": PALETTE[i % 10], "marker": "os^Dv<>ph8"[i % 10], "linestyle": DASHES[i % 4]}


def operators(table: pd.DataFrame, column: str = "operator") -> list[str]:
    """Return the operators of a table, in the order that all figures share."""
    there = set(table[column])
    return [*(name for name in OPERATORS if name in there), *sorted(there - {*OPERATORS, "all"})]

"""One look for every figure: sizes of the NeurIPS page, embedded fonts, and a fixed colour and marker per method."""

from __future__ import annotations

import zlib
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TEXT_WIDTH, PAGE_HEIGHT = 5.5, 9.0  # inches: a NeurIPS column is the text width
PALETTE = sns.color_palette("colorblind", 10).as_hex()
BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = PALETTE
THEORY: dict[str, Any] = {"color": "0.35", "linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 1}

_METHODS = {
    "ideal": ("black", "o"),
    "end_to_end": ("black", "o"),
    "greedy": (RED, "*"),
    "adaptive": (RED, "P"),
    "euler": (BLUE, "o"),
    "midpoint": (ORANGE, "s"),
    "heun": (GREEN, "^"),
    "rk4": (PURPLE, "D"),
    "ddim": (BROWN, "v"),
    "adjoint_backsolve": ("#7f7f7f", "X"),
    "adjoint_cached": ("#3b3b3b", "P"),
    "adjoint_interpolated": ("#8c6bb1", "p"),
    "adjoint_deis": ("#008080", "d"),
    "control_average": (YELLOW, "h"),
    "identity_jacobian": (SKY, "<"),
    "truncated": (SKY, ">"),
    "lgd": (PINK, "p"),
    "pigdm": (PINK, "8"),
    "tmpd": (PINK, "X"),
}
_PATHS = {"condot": "CondOT", "cosine": "cosine", "vp_linear": "linear VP", "ve": "VE", "polynomial": "polynomial"}
_SPARE_MARKERS = "PXhdp8<>"


def apply() -> None:
    """Set matplotlib's parameters."""
    sns.set_theme(context="paper", style="ticks", palette=PALETTE)
    small, normal = 7, 8
    mpl.rcParams.update(
        {
            "pdf.fonttype": 42,
            "ps.fonttype": 42,
            "font.family": "DejaVu Sans",
            "mathtext.fontset": "dejavusans",
            "font.size": normal,
            "axes.titlesize": normal,
            "axes.labelsize": normal,
            "xtick.labelsize": small,
            "ytick.labelsize": small,
            "legend.fontsize": small,
            "legend.title_fontsize": small,
            "legend.frameon": False,
            "lines.linewidth": 1.1,
            "lines.markersize": 3.5,
            "axes.linewidth": 0.6,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.minor.width": 0.4,
            "ytick.minor.width": 0.4,
            "savefig.dpi": 300,
            "figure.dpi": 150,
            "figure.constrained_layout.use": True,
        }
    )


def method(estimator: str, solver: str | None = None) -> dict[str, Any]:
    """Return the colour and marker of a method: of its solver where it is the plain gradient through one.

    End-to-end markers are filled, lookahead markers open. A method that nobody has named yet gets a colour and a
    marker from its name, the same ones everywhere.
    """
    name = solver if solver and estimator in ("lookahead", "end_to_end") else estimator
    spare = zlib.crc32(name.encode())
    colour, marker = _METHODS.get(name, (PALETTE[6 + spare % 4], _SPARE_MARKERS[spare // 4 % len(_SPARE_MARKERS)]))
    face = "white" if estimator == "lookahead" and solver else colour
    return {"color": colour, "marker": marker, "markerfacecolor": face, "markeredgecolor": colour}


def method_label(estimator: str, solver: str | None = None) -> str:
    """Return the name of a method as a figure prints it."""
    shown = f" {solver}" if solver and estimator in ("lookahead", "end_to_end") else ""
    return estimator.replace("end_to_end", "end-to-end").replace("_", " ") + shown


def series(i: int) -> dict[str, Any]:
    """Return the look of the i-th of several problems: colour, marker and dash together, to survive print in grey."""
    dashes: list[Any] = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]
    return {"color": PALETTE[i % 10], "marker": "os^Dv<>ph8"[i % 10], "linestyle": dashes[i % 4]}


def path_label(path: str) -> str:
    """Return a path's name as a figure prints it."""
    return _PATHS.get(path, path)


def power_law(ax: Axes, x: np.ndarray, level: float, power: float) -> None:
    """Draw the reference line level * x^power, and write its slope beside it."""
    y = level * x**power
    ax.plot(x, y, **THEORY)
    ax.annotate(f"slope {power:g}", (x[-1], y[-1]), (3, -3), textcoords="offset points", fontsize=7, color="0.25")


def finish(figure: Figure, axes: list[Axes]) -> Figure:
    """Take the upper and right spines away and letter the panels."""
    for letter, ax in zip("abcdefghijklmnop", axes, strict=False):
        sns.despine(ax=ax)
        if len(axes) > 1:
            ax.set_title(letter, loc="left", fontweight="bold")
    return figure

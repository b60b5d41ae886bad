"""Mistakes in the ideal gradient's error bound."""

from tests.tools.patches.record import add

add(
    "analysis/reference.py",
    ["analysis/test_reference.py"],
    {
        "reference: the round trip left out of the bound": ('+ diagnostics["round_trip"]\n', "\n"),
        "reference: the stiffness of the loss left out": ("(*moved, pull(stiffness))", "moved"),
        "reference: both solves at one tolerance": (
            "t, 10 * tolerance, MAX_STEP, check_density=False)",
            "t, tolerance, MAX_STEP / 2, check_density=False)",
        ),
        "reference: any determinant": ("if not bool((residual < 1e-6).all()):", "if False:"),
        "reference: any bound": ("if worst > max_error:", "if False:"),
        "reference: a backward solve from the loss gradient of another length": (
            "expand(size, x) * pulled)), endpoint",
            "pulled)), endpoint",
        ),
    },
)

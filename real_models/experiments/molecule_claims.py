"""The ledger once more, on the learned flow of molecules: claims without a closed form, in float64 on the CPU.

States are flat, of molecules of nine atoms; the loss is the guide's, each molecule's for another property.
"""

from __future__ import annotations

from analysis.experiment import Cell
from analysis.settings import Options
from real_models.claims.learned import Learned
from real_models.experiments import real_claims

SUITE = "molecules"
# The network changes near the data over distances below a thousandth of a bond's length.
MOLECULES = Learned("real_models.molecules.flattened:subject", "qm9", smooth=5e-5, resolved=5e-4)
derive = real_claims.derive


def cells(options: Options) -> list[Cell]:
    """Return one cell per claim; its problem is the claim's id."""
    return real_claims.cells_on(MOLECULES, options)

"""Small molecules (QM9) as a learned flow over coordinates and atom types, with predictors of their properties."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"

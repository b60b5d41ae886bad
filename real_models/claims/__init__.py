"""The ledger's claims on learned flows; importing this package registers every measurement in it."""

from real_models.claims import exact, steps

__all__ = ["exact", "steps"]

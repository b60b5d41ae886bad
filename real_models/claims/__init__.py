"""The ledger of claims on learned flows."""

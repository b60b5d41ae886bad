"""The documentation's generator; the pages themselves are in ``docs/pages``."""

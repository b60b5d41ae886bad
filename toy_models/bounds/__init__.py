"""Error bounds of mixtures, for many states at once."""

"""Trials: the method, its variants and the trivial baselines, measured on true masks."""

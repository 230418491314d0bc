"""Targets: what is explained, as one score per sample made from a model's outputs."""

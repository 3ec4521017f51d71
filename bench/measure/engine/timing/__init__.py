"""Timing of one case: alignment of ranks, sampling, caches, cost of a case."""

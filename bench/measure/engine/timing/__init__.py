"""Timing of one case: alignment of ranks, sampling, caches, prices of a call."""

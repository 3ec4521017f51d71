"""Collectives and pairs of ranks: calls, buffers and exact checks."""

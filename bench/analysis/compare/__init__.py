"""Comparison of results: two sides, many peers, a gate for CI."""

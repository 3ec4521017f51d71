"""Conclusions from saved results: comparisons, explanations of a step, health of a machine."""

"""Rates that a prediction multiplies with: of devices, matrix products and networks."""

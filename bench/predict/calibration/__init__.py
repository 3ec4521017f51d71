"""Calibration of the model of a step from measured results."""
